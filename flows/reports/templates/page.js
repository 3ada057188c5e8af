// A click sorts a table by a column; rows without a value stay last.
for (const head of document.querySelectorAll('th button')) head.onclick = () => {
  const th = head.parentElement, body = th.closest('table').tBodies[0];
  const up = th.ariaSort !== 'ascending', column = th.cellIndex;
  const key = row => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === '' || y === '') return (x === '') - (y === '');
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return up ? order : -order;
  };
  for (const other of th.parentElement.cells) other.removeAttribute('aria-sort');
  th.ariaSort = up ? 'ascending' : 'descending';
  body.append(...[...body.rows].sort(compare));
};
