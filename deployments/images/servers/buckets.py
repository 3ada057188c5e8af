"""Make the buckets that are not there yet; run once before everything that needs them."""

import sys

import boto3
from botocore.exceptions import ClientError

MISSING = ("404", "NoSuchBucket")
DEFAULT_REGION = "us-east-1"


def main() -> None:
    client = boto3.client("s3")
    for name in sys.argv[1:]:
        try:
            client.head_bucket(Bucket=name)
            print(f"{name}: is there")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in MISSING:
                sys.exit(
                    f"{name}: the store answers {code}; STORE_BUCKET and MLFLOW_BUCKET must be "
                    "buckets of your own, which these credentials may use"
                )
            # In the region where it is asked for; of this one AWS takes no word.
            region = client.meta.region_name
            where = {} if region in (None, DEFAULT_REGION) else {"LocationConstraint": region}
            client.create_bucket(
                Bucket=name, **({"CreateBucketConfiguration": where} if where else {})
            )
            print(f"{name}: made")


if __name__ == "__main__":
    main()
