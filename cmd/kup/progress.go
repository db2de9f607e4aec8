package main

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/kup-project/kup"
)

// barDelay is how long something lasts before it gets a progress bar.
const barDelay = time.Second

// progress returns a function that shows how far things are: with bars if standard error is a terminal, and with lines under -v.
// done ends it.
func (c *command) progress() (report kup.Progress, done func()) {
	p := &progress{begun: time.Now()}
	if file, ok := c.stderr.(*os.File); ok && term.IsTerminal(int(file.Fd())) && !c.verbose && !c.json {
		p.bars = mpb.New(mpb.WithOutput(file), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
	}
	return p.report, p.done
}

type progress struct {
	mu    sync.Mutex
	begun time.Time
	bars  *mpb.Progress // nil: no terminal
	step  string
	bar   *mpb.Bar // of the step; nil until there is one
}

// report may be called from several goroutines.
func (p *progress) report(step string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if step != p.step {
		p.step = step
		p.finishBar()
		slog.Info(step, "after", time.Since(p.begun).Round(time.Millisecond))
	}
	if p.bars == nil || total == 0 || time.Since(p.begun) < barDelay {
		return
	}
	if p.bar == nil {
		p.bar = p.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name(step, decor.WCSyncSpaceR), decor.CountersKibiByte("% .1f / % .1f")),
			mpb.AppendDecorators(decor.Percentage()))
	}
	p.bar.SetTotal(total, false)
	p.bar.SetCurrent(done)
}

// finishBar leaves the bar as it is: the step is over, or it has failed half-way.
func (p *progress) finishBar() {
	if p.bar != nil {
		p.bar.Abort(false)
		p.bar = nil
	}
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finishBar()
	if p.bars != nil {
		p.bars.Wait()
	}
}
