package kernel

import (
	"os"
	"testing"
)

func TestEndFirstIsTakenBack(t *testing.T) {
	score := func() string {
		text, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := score()
	asBefore, err := EndFirst()
	if err != nil || score() != "1000\n" {
		t.Fatalf("%s, %v", score(), err)
	}
	if err := asBefore(); err != nil || score() != before {
		t.Errorf("%s instead of %s, %v", score(), before, err)
	}
}
