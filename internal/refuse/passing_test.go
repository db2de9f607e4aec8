package refuse

import (
	"errors"
	"fmt"
	"testing"
)

func TestPassingOnlyIfAllIs(t *testing.T) {
	moment, lasting := Passingf("fd 3: in the middle"), Errorf("fd 4: cannot")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{moment, true},
		{fmt.Errorf("application: %w", moment), true},
		{errors.Join(moment, nil, moment), true},
		{errors.Join(moment, lasting), false},
		{lasting, false},
		{errors.New("disk full"), false},
		{nil, false},
	} {
		if got := Passing(c.err); got != c.want {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
	if !errors.Is(moment, ErrRefused) {
		t.Error("what passes is a refusal too")
	}
}
