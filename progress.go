package kup

// Progress is told how far something is that lasts: which step it is at, and how many bytes of how many are done. Total is 0 where nobody knows.
// It may be called by several goroutines.
type Progress func(step string, done, total int64)
