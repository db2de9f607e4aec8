package load

import (
	"fmt"
	"slices"
	"time"
)

// Failed tells how many connections have broken so far.
func (l *Load) Failed() (n int, first error) {
	for _, c := range l.clients {
		c.mu.Lock()
		if c.err != nil {
			if n++; first == nil {
				first = c.err
			}
		}
		c.mu.Unlock()
	}
	return n, first
}

// Replies are the times of all answers since Run, in order.
func (l *Load) Replies() []time.Time {
	var all []time.Time
	for _, c := range l.clients {
		c.mu.Lock()
		all = append(all, c.replies...)
		c.mu.Unlock()
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// LongestGap is the longest that a connection waited between two answers, of which the first came before until and the
// second after from.
func (l *Load) LongestGap(from, until time.Time) time.Duration {
	longest := time.Duration(0)
	for _, c := range l.clients {
		c.mu.Lock()
		for i := 1; i < len(c.replies); i++ {
			if c.replies[i].After(from) && c.replies[i-1].Before(until) {
				longest = max(longest, c.replies[i].Sub(c.replies[i-1]))
			}
		}
		c.mu.Unlock()
	}
	return longest
}

// FirstAnswer is the first answer that any connection got after a moment, and LastFirst when the last of them got its first.
func (l *Load) FirstAnswer(after time.Time) (first, lastFirst time.Time) {
	for _, c := range l.clients {
		c.mu.Lock()
		for _, at := range c.replies {
			if !at.After(after) {
				continue
			}
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(lastFirst) {
				lastFirst = at
			}
			break
		}
		c.mu.Unlock()
	}
	return first, lastFirst
}

// AwaitAnswers waits until every connection has had an answer after a moment.
func (l *Load) AwaitAnswers(after time.Time, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		if n, err := l.Failed(); n > 0 {
			return fmt.Errorf("%d of %d connections have failed; the first: %w", n, len(l.clients), err)
		}
		n := l.answered(after)
		if n == len(l.clients) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("only %d of %d connections had an answer within %v", n, len(l.clients), most)
		}
	}
}

// answered is how many connections have had an answer after a moment.
func (l *Load) answered(after time.Time) int {
	n := 0
	for _, c := range l.clients {
		c.mu.Lock()
		if len(c.replies) > 0 && c.replies[len(c.replies)-1].After(after) {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// Rate is answers per second between two moments.
func (l *Load) Rate(from, until time.Time) float64 {
	n := 0
	for _, c := range l.clients {
		c.mu.Lock()
		for _, at := range c.replies {
			if at.After(from) && at.Before(until) {
				n++
			}
		}
		c.mu.Unlock()
	}
	return float64(n) / until.Sub(from).Seconds()
}
