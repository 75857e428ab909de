"""S3 and what speaks like it, through s3fs."""

from __future__ import annotations

from typing import Any

from prs_dask.stores.client import Found, Page, awaited

__all__ = ["S3Client", "constructor_options"]

AT_ONCE = 32
"""Requests under way at most: of listing, reading ahead and downloading."""

_EMPTY_RANGE = 416


def constructor_options(options: dict[str, Any]) -> dict[str, Any]:
    """For S3FileSystem: no retries of botocore's own, and more requests at once, unless the user has set them."""
    ours = {"retries": {"total_max_attempts": 1, "mode": "standard"}, "max_pool_connections": AT_ONCE}
    return {**options, "config_kwargs": {**ours, **(options.get("config_kwargs") or {})}}


class S3Client:
    """See `Client`."""

    def __init__(self, file_system: Any) -> None:
        self._file_system = file_system
        file_system.retries = 1

    def prepare(self) -> None:
        """Make the client: loading botocore's model of the service takes as long as a hundred requests."""
        awaited(self._file_system, self._file_system.set_session)

    def info(self, path: str) -> Found:
        bucket, key = self._split(path)
        if not key or key.endswith("/"):
            raise FileNotFoundError(path)
        told = awaited(self._file_system, self._head, bucket, key)
        return Found(path, told["ContentLength"], _identity(told))

    async def _head(self, bucket: str, key: str) -> Any:
        return await self._file_system._call_s3("head_object", Bucket=bucket, Key=key)

    def read(self, path: str, offset: int, size: int) -> bytes:
        data: bytes = awaited(self._file_system, self._get, *self._split(path), offset, size)
        return data

    async def _get(self, bucket: str, key: str, offset: int, size: int) -> bytes:
        span = f"bytes={offset}-{offset + size - 1}"
        try:
            answer = await self._file_system._call_s3("get_object", Bucket=bucket, Key=key, Range=span)
        except OSError as error:
            response = getattr(error.__cause__, "response", {})
            if response.get("ResponseMetadata", {}).get("HTTPStatusCode") == _EMPTY_RANGE:
                return b""
            raise
        async with answer["Body"] as body:
            data: bytes = await body.read()
            return data

    def page(self, prefix: str, start: Any) -> Page:
        bucket, key = self._split(prefix)
        told = awaited(self._file_system, self._list, bucket, key, start)
        files = [Found(f"{bucket}/{one['Key']}", one["Size"], _identity(one)) for one in told.get("Contents", ())]
        return Page(files, told.get("NextContinuationToken") if told.get("IsTruncated") else None)

    async def _list(self, bucket: str, key: str, start: Any) -> Any:
        going_on = {"ContinuationToken": start} if start is not None else {}
        return await self._file_system._call_s3("list_objects_v2", Bucket=bucket, Prefix=key, **going_on)

    def write(self, path: str, data: bytes) -> None:
        awaited(self._file_system, self._put, *self._split(path), data, sent=len(data))

    async def _put(self, bucket: str, key: str, data: bytes) -> None:
        await self._file_system._call_s3("put_object", Bucket=bucket, Key=key, Body=data)

    def remove(self, path: str) -> None:
        awaited(self._file_system, self._delete, *self._split(path))

    async def _delete(self, bucket: str, key: str) -> None:
        await self._file_system._call_s3("delete_object", Bucket=bucket, Key=key)

    def _split(self, path: str) -> tuple[str, str]:
        if path.startswith("arn:"):  # an access point, whose name has slashes
            bucket, key = self._file_system._find_bucket_key(path)
            return bucket, key
        bucket, _, key = path.partition("/")
        return bucket, key


def _identity(told: Any) -> str:
    return str(told.get("ETag") or told.get("LastModified") or "").strip('"')
