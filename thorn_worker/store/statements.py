"""The SQL that changes `pendings` and `endpoints`: the same tables stand in the SQLite log and in a cache."""

from typing import Final

PUT: Final = (
    "INSERT INTO pendings"
    " (partition, offset, idx, host, sub, delivery_id, due_at, appended_at, expires_at, reason, value)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (partition, offset, idx) DO UPDATE SET host = excluded.host, sub = excluded.sub,"
    " delivery_id = excluded.delivery_id, due_at = excluded.due_at, appended_at = excluded.appended_at,"
    " expires_at = excluded.expires_at, reason = excluded.reason, value = excluded.value"
)
REMOVE: Final = "DELETE FROM pendings WHERE partition = ? AND offset = ? AND idx = ?"
SAVE_ENDPOINT: Final = "INSERT OR REPLACE INTO endpoints (partition, sub, value) VALUES (?, ?, ?)"
FORGET_ENDPOINT: Final = "DELETE FROM endpoints WHERE partition = ? AND sub = ?"
