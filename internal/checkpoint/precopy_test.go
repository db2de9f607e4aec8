package checkpoint

import (
	"testing"
	"time"
)

func TestPrecopyEnds(t *testing.T) {
	o := PrecopyOptions{Rounds: 5, MaxTime: time.Minute}
	rounds := func(mb ...int64) (r []Round) {
		for _, n := range mb {
			r = append(r, Round{Bytes: n << 20})
		}
		return r
	}
	for _, c := range []struct {
		name   string
		rounds []Round
		took   time.Duration
		ends   bool
	}{
		{"the first round is never the last while much was copied", rounds(1000), time.Second, false},
		{"little was written", rounds(1000, 3), time.Second, true},
		{"it pays", rounds(1000, 500, 200), time.Second, false},
		{"it does not pay any more", rounds(1000, 500, 490), time.Second, true},
		{"too many rounds", rounds(1000, 500, 250, 120, 60), time.Second, true},
		{"too long", rounds(1000, 500), 2 * time.Minute, true},
	} {
		if got := ended(c.rounds, o, c.took); (got != "") != c.ends {
			t.Errorf("%s: ended with %q", c.name, got)
		}
	}
}
