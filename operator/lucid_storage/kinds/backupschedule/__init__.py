"""BackupSchedule: `cron`, `slots`, `children`, `desired` and `plan` are pure, `kind` has the hands."""
