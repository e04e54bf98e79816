package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"weir/collector"
)

// progress shows how far a reading is: a bar on a terminal, a line every five
// seconds elsewhere.
type progress struct {
	w     io.Writer
	quiet bool
	tty   bool
	next  time.Time
	drawn bool
	calls int
}

func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w, quiet: quiet, tty: isTerminal(w)}
	p.next = time.Now().Add(p.every())
	return p
}

func (p *progress) every() time.Duration {
	if p.tty {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

// update is called once a block.
func (p *progress) update(doing string, s collector.FileStats) {
	if p.quiet {
		return
	}
	if p.calls++; p.calls%16 != 0 {
		return
	}
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(p.every())
	share := ""
	filled := 0
	if s.Size > 0 {
		share = fmt.Sprintf("%3d %%", min(100, 100*s.Raw/s.Size))
		filled = int(min(30, 30*s.Raw/s.Size))
	}
	if !p.tty {
		fmt.Fprintf(p.w, "%s: %s %d lines\n", doing, share, s.Lines)
		return
	}
	p.drawn = true
	fmt.Fprintf(p.w, "\r\x1b[K%-9s [%s%s] %s %d lines", doing, strings.Repeat("=", filled), strings.Repeat(" ", 30-filled), share, s.Lines)
}

func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// isTerminal reports whether w is a terminal that wants colour and movement.
func isTerminal(w io.Writer) bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
