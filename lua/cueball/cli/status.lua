--- What the command's exit status means; docs/cueball.1 has the same.
-- From 128 on it is as a shell has it for a process that a signal ended: 2 is SIGINT, 13 is SIGPIPE, 15 is SIGTERM.
return {
  found = 0, failed = 1, usage = 2, timeout = 3, broken = 4, interrupted = 128 + 2, reader_gone = 128 + 13, terminated = 128 + 15,
}
