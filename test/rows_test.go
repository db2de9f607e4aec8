package test

// table lists every property that KUP keeps, in the order of the manual.
func table() []row {
	var rows []row
	for _, part := range [][]row{taskRows} {
		rows = append(rows, part...)
	}
	return rows
}

var taskRows = []row{
	{name: "basic", source: "task/basic"},
	{name: "static", source: "task/basic", flags: []string{"-static"}},
	{name: "tree", source: "task/tree"},
	{name: "deadsession", source: "task/deadsession"},
	{name: "stopped", source: "task/stopped"},
	{name: "threads", source: "task/threads"},
	{name: "deadleader", source: "task/deadleader", either: true},
	{name: "registers", source: "task/registers"},
}
