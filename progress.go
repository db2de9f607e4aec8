package kup

// Progress says how far something is that lasts.
type Progress struct {
	Step  string
	Done  int64 // bytes
	Total int64 // bytes; 0 if nobody knows
}
