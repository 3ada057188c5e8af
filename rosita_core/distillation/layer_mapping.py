"""Which hidden state of the teacher each hidden state of the student learns from."""

from __future__ import annotations


def map_layers(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Teacher hidden-state index for student states 0..student_layers (0 = embedding output).

    Divisible counts: i * L_T / L_S. Otherwise teacher state i is dropped where
    (i + 1) mod (L_T / L_S) = 0, as the authors do for 12 -> 8: 0,1,3,4,6,7,9,10,12. Where that rule
    does not leave L_S + 1 states, the states are spread evenly: round(i * L_T / L_S).

    Raises:
        ValueError: where a count is below 1 or the student has more layers than the teacher.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            f"student_layers must be in [1, {teacher_layers}] for a teacher of {teacher_layers} "
            f"layers, got {student_layers}"
        )
    if teacher_layers % student_layers == 0:
        return tuple(i * teacher_layers // student_layers for i in range(student_layers + 1))
    # (i + 1) mod (L_T / L_S) in whole numbers: the floating-point remainder misses some zeros.
    kept = tuple(
        i for i in range(teacher_layers + 1) if (i + 1) * student_layers % teacher_layers != 0
    )
    if len(kept) == student_layers + 1:
        return kept
    return tuple(
        (2 * i * teacher_layers + student_layers) // (2 * student_layers)
        for i in range(student_layers + 1)
    )
