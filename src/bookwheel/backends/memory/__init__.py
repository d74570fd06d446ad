"""Every stored port in this process's memory: the reference for the contract tests, gone when the process ends."""
