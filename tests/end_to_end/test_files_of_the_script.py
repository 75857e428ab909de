"""What a script writes into its ``log_dir`` stands in the logs, while it runs and when its process was killed."""

import os
import time


def test_files_in_log_dir_are_in_the_logs_whoever_wrote_them_and_however_their_process_ended(job):
    script = """
        import os, signal, subprocess
        from pathlib import Path
        from prs_dask import EntryScript
        def init():
            global folder, name
            folder, name = Path(EntryScript().log_dir), EntryScript().agent_name
            (folder / "below").mkdir()
            (folder / "below" / os.fsdecode(b"caf\\xe9 <b>.txt")).write_text(name)
            (folder / "link").symlink_to("/etc/hostname")
        def run(mini_batch):
            number = int(Path(mini_batch[0]).name)
            with open(folder / "seen.txt", "a") as file:
                file.write(f"{number}\\n")
            subprocess.run(["sh", "-c", f"echo {number} > last.txt"], cwd=folder, check=True)
            if number == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            return mini_batch
    """
    done = job(script, 20, run_max_try=2, error_threshold=-1)
    logs = done.run.log_dir / "user" / "entry_script_log" / "0"
    folders = sorted(path for path in logs.iterdir() if path.is_dir())
    assert len(folders) >= 3, "two were killed"
    at_work = [folder for folder in folders if (folder / "seen.txt").exists()]  # the last one may come too late
    seen = sorted(int(line) for folder in at_work for line in (folder / "seen.txt").read_text().split())
    assert seen == sorted([*range(20), 7])
    for folder in at_work:
        assert (folder / "last.txt").read_text() == (folder / "seen.txt").read_text().splitlines(keepends=True)[-1]
    for folder in folders:
        assert (folder / "below" / os.fsdecode(b"caf\xe9 <b>.txt")).read_text() == folder.name
        assert "link is not sent: it is a link" in (logs / f"{folder.name}.log.txt").read_text()
        own = ["last.txt", "seen.txt"] if folder in at_work else []
        assert sorted(path.name for path in folder.iterdir()) == ["below", *own]


def test_a_file_that_grows_is_two_seconds_behind_at_most(submit):
    script = """
        import os, time
        from prs_dask import EntryScript
        def run(mini_batch):
            with open(os.path.join(EntryScript().log_dir, "times.txt"), "a", buffering=1) as file:
                for _ in range(40):
                    file.write(f"{time.time()}\\n")
                    time.sleep(0.1)
            return mini_batch
    """
    run = submit(script, 1)
    behind = []
    while run.get_status() == "Running":
        for path in run.log_dir.glob("user/entry_script_log/0/*/times.txt"):
            behind.append(time.time() - float(path.read_text().splitlines()[-1]))
        time.sleep(0.05)
    assert run.wait_for_completion() == "Completed"
    assert len(behind) > 20
    assert max(behind) < 2.0
