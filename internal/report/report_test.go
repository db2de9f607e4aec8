package report

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestDurationsAreMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0", 1500 * time.Microsecond: "1.5", 999: "0", 2 * time.Second: "2000", 12345678: "12.345"} {
		text, err := json.Marshal(Duration(d))
		if err != nil || string(text) != want {
			t.Errorf("%v: expected %s, got %s, %v", d, want, text, err)
		}
	}
	var back Duration
	if err := json.Unmarshal([]byte("12.345"), &back); err != nil || time.Duration(back) != 12345*time.Microsecond {
		t.Errorf("12.345: got %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`"soon"`), &back); err == nil {
		t.Error("a word is taken for a duration")
	}
}

func TestStepsNoteFailuresToo(t *testing.T) {
	var s Steps
	failure := errors.New("no")
	if err := s.Do("first", func() error { return nil }); err != nil {
		t.Error(err)
	}
	if err := s.Do("second", func() error { return failure }); err != failure {
		t.Errorf("got %v", err)
	}
	if len(s) != 2 || s[0].Name != "first" || s[1].Name != "second" {
		t.Errorf("got %v", s)
	}
}

func TestTextLeavesTriflesOut(t *testing.T) {
	s := Steps{{"look", Duration(time.Microsecond)}, {"copy", Duration(1234567 * time.Microsecond)}, {"end", Duration(34567 * time.Microsecond)}}
	if want := "copy 1.23s, end 34.6ms"; s.String() != want {
		t.Errorf("expected %q, got %q", want, s)
	}
}
