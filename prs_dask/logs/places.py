"""Every path of the logs tree, and the columns of its tables: who writes, reads or tests one takes its name from here.

Paths are relative to ``logs/``. ``{node}`` is a node's number, ``{process}`` a process' name (``process007``).
"""

from __future__ import annotations

__all__ = [
    "ATTEMPTS",
    "ATTEMPT_COLUMNS",
    "DISK_USAGE",
    "DISK_USAGE_COLUMNS",
    "DRIVER_LOG",
    "ENGINE_ERROR",
    "ERRORS",
    "ERRORS_JSON",
    "FAILED_ITEMS",
    "GPU_USAGE_COLUMNS",
    "JOB_RESULT",
    "JOB_RESULT_JSON",
    "LOST_WORKERS",
    "MASTER_ROLE",
    "METRICS",
    "NODE_SUMMARY",
    "NODE_SUMMARY_COLUMNS",
    "NODE_USAGE",
    "NODE_USAGE_COLUMNS",
    "OVERVIEW",
    "PROCESS_ATTEMPTS",
    "PROCESS_COLUMNS",
    "PROCESS_ERRORS",
    "PROCESS_EVENTS",
    "PROCESS_EVENT_COLUMNS",
    "PROCESS_LIST",
    "PROCESS_SUMMARY",
    "PROCESS_SUMMARY_COLUMNS",
    "PROCESS_USAGE",
    "PROCESS_USAGE_COLUMNS",
    "PROGRESS",
    "PROGRESS_COLUMNS",
    "STREAMS",
]

DRIVER_LOG = "driver_log.txt"
JOB_RESULT = "job_result.txt"
JOB_RESULT_JSON = "job_result.json"
OVERVIEW = "job_progress_overview.{hour}.txt"
"""``{hour}`` is ``yyyymmddhh``, UTC: that in which the file begins."""

MASTER_ROLE = "sys/master_role.txt"
ENGINE_ERROR = "sys/error/{component}.txt"

ATTEMPTS = "sys/job_report/processed_mini-batches.csv"
ATTEMPT_COLUMNS = (
    "Mini-batch Id",
    "Picked Count",
    "Process",
    "Process Start Time",
    "Total",
    "Succeeded",
    "Failed",
    "Elapsed Seconds",
    "Process Seconds",
    "Run Method Seconds",
    "Status",
    "Error Category",
    "Error Message",
    "Mini-batch Detail",
    "Read Seconds",
)
"""Those of the contract, and behind them ``Read Seconds``, which tables of earlier versions do not have."""

PROCESS_ATTEMPTS = "sys/node/{node}/{process}.txt"
PROCESS_COLUMNS = (
    "Mini-batch Id",
    "Picked Count",
    "Ip",
    "Pid",
    "Start Time",
    "Total",
    "Succeeded",
    "Failed",
    "Elapsed Seconds",
    "Process Seconds",
    "Run Method Seconds",
    "Status",
)
PROCESS_EVENTS = "sys/node/{node}/processes.csv"
PROCESS_EVENT_COLUMNS = ("Time", "Process", "Event", "Ip", "Pid", "Seconds", "Why")
PROCESS_SUMMARY = "sys/job_report/process_summary.csv"
NODE_SUMMARY = "sys/job_report/node_summary.csv"
_SUMS = (
    "First Start Time",
    "Last End Time",
    "Attempts",
    "Succeeded Mini-batches",
    "Failed Mini-batches",
    "Failed Attempts Tried Again",
    "Items",
    "Succeeded Items",
    "Failed Items",
    "Elapsed Seconds",
    "Process Seconds",
    "Run Method Seconds",
)
_LIFE = ("Ip", "Pid", "Start Time", "Ready Time", "Init Seconds", "End Time", "End Reason")
_STARTS = ("Processes", "Failed Starts", "Start Seconds", "Init Seconds")
PROCESS_SUMMARY_COLUMNS = ("Node", "Process", *_LIFE, *_SUMS)
NODE_SUMMARY_COLUMNS = ("Node", *_STARTS, *_SUMS)
PROGRESS = "sys/metrics/progress.csv"
PROGRESS_COLUMNS = (
    "Datetime",
    "Total Tasks",
    "Scheduled Tasks",
    "Completed Tasks",
    "Failed Tasks",
    "Elapsed Time",
    "Estimated Remaining Time",
)

NODE_USAGE = "perf/{node}/node_resource_usage.csv"
NODE_USAGE_COLUMNS = (
    "Utc Time",
    "Cpu Percent",
    "Memory Total (MB)",
    "Memory Available (MB)",
    "Memory Used (MB)",
    "Memory Used Percent",
    "Disk Io Read Count",
    "Disk Io Write Count",
    "Disk Io Read (MB)",
    "Disk Io Write (MB)",
    "Network Sent (MB)",
    "Network Recv (MB)",
    "# of TCP Connections",
    "# of UDP Connections",
)
GPU_USAGE_COLUMNS = (
    "GPU {gpu} Percent",
    "GPU {gpu} Memory Used (MB)",
    "GPU {gpu} Memory Total (MB)",
    "GPU {gpu} Memory Used Percent",
)
"""Behind those of the node, for each of its GPUs."""

DISK_USAGE = "perf/{node}/node_disk_usage.csv"
DISK_USAGE_COLUMNS = (
    "Utc Time",
    "Mount Point",
    "Device",
    "File System",
    "Total (MB)",
    "Used (MB)",
    "Free (MB)",
    "Used Percent",
)
PROCESS_USAGE = "perf/{node}/processes_resource_usage.csv"
PROCESS_USAGE_COLUMNS = (
    "Utc Time",
    "Process",
    "Pid",
    "Processes",
    "Cpu Percent",
    "Cpu Seconds",
    "Memory Used (MB)",
    "Threads",
    "Disk Io Read (MB)",
    "Disk Io Write (MB)",
)
PROCESS_LIST = "perf/{node}/os/{hour}/processes_{minute}"
"""``{hour}`` is ``yyyymmddhh``, UTC."""

ERRORS = "user/error.txt"
ERRORS_JSON = "user/error.json"
PROCESS_ERRORS = "user/error/{node}/{process}.txt"
LOST_WORKERS = "user/error/lost_workers.txt"
FAILED_ITEMS = "user/failed_items.jsonl"
METRICS = "metrics.jsonl"

STREAMS = {
    "stdout": "user/stdout/{node}/{process}.stdout.txt",
    "stderr": "user/stderr/{node}/{process}.stderr.txt",
    "log": "user/entry_script_log/{node}/{process}.log.txt",
    "metrics": METRICS,
    "cProfile": "sys/node/{node}/{process}.profile",
    "memray": "sys/node/{node}/{process}.memray.bin",
    "log_dir": "user/entry_script_log/{node}/{process}/{name}",
}
"""What worker processes write, by the kind of the pieces in which it comes; ``{name}``: what the script calls it."""
