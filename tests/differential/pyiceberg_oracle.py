"""Applies table updates with PyIceberg: one JSON object per line in, one per line out.

In:  {"base": <table metadata>, "updates": [<update>...], "metadata_location": <string>}
Out: {"metadata": <table metadata>} or {"error": <text>}
"""

import json
import sys

from pydantic import TypeAdapter
from pyiceberg.table.metadata import TableMetadataUtil
from pyiceberg.table.update import TableUpdate, update_table_metadata

UPDATES = TypeAdapter(tuple[TableUpdate, ...])


def answer(request: dict) -> dict:
    base = TableMetadataUtil.parse_obj(request["base"])
    updates = UPDATES.validate_python(request["updates"])
    result = update_table_metadata(
        base, updates, enforce_validation=True, metadata_location=request["metadata_location"]
    )
    return {"metadata": json.loads(result.model_dump_json())}


def main() -> None:
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # every refusal is an answer
            reply = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
