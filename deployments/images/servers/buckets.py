"""Make the buckets that are not there yet; run once before everything that needs them."""

import sys

import boto3
from botocore.exceptions import ClientError

MISSING = ("404", "NoSuchBucket")


def main() -> None:
    client = boto3.client("s3")
    for name in sys.argv[1:]:
        try:
            client.head_bucket(Bucket=name)
            print(f"{name}: is there")
        except ClientError as error:
            if error.response["Error"]["Code"] not in MISSING:
                raise
            client.create_bucket(Bucket=name)
            print(f"{name}: made")


if __name__ == "__main__":
    main()
