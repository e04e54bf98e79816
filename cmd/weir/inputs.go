package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"weir/collector"
	"weir/collector/capture/mirror"
	"weir/collector/capture/tls"
	"weir/detectors"
	"weir/pipeline"
)

// input is one finite source of an analysis.
type input struct {
	name    string // as given
	path    string // where it is read; a spooled copy for "-"
	format  *collector.Format
	how     collectConfig // of an analysis: what is configured about it
	packets bool          // a capture file: it has no lines
	keys    *tls.KeyLog
}

// reader turns an input into blocks, from its beginning to its end.
type reader interface {
	Next(ctx context.Context) (*pipeline.Block, error)
	Release(b *pipeline.Block)
	Stats() collector.FileStats
	Close() error
}

// open begins to read the input. keep chooses lines, see collector.ReaderConfig; of
// a capture all is read.
func (in *input) open(id *pipeline.Identity, workers int, keep func(prefix []byte) bool) reader {
	if in.packets {
		return mirror.NewReader(mirror.ReaderConfig{Path: in.path, Source: in.name, NewIdentify: identify(id), Keys: in.keys})
	}
	return collector.NewReader(collector.ReaderConfig{
		Path: in.path, Source: in.name, Format: in.format, Timed: true, NewIdentify: identify(id), Workers: workers, Keep: keep,
	})
}

// openInputs expands the arguments and decides how each input is read, by the
// flags and by what cfg says of it. notes are
// sentences for people; problems are inputs that cannot be read, which do not
// stop the others.
func openInputs(args []string, cfg *config, flags collectConfig, stdin io.Reader) (ins []input, notes []string, problems []error, cleanup func()) {
	cleanup = func() {}
	names, err := collector.Expand(args)
	if err != nil {
		problems = append(problems, err)
	}
	for _, name := range names {
		in := input{name: name, path: name}
		if name == "-" {
			path, done, err := collector.SpoolStdin(stdin, os.TempDir())
			if err != nil {
				problems = append(problems, err)
				continue
			}
			in.path, cleanup = path, func() { _ = done() }
		}
		in.how = cfg.read(name, flags)
		if mirror.IsCapture(in.path) {
			in.packets = true
			if in.keys, err = readKeyLog(in.how.keyLog); err != nil {
				problems = append(problems, err)
				continue
			}
			notes = append(notes, name+": packets")
			ins = append(ins, in)
			continue
		}
		f, chosen, err := in.how.format(func() ([][]byte, error) { return collector.Head(in.path) }, true)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
			continue
		}
		in.format = f
		notes = append(notes, fmt.Sprintf("%s: %s", name, chosen))
		ins = append(ins, in)
	}
	return ins, notes, problems, cleanup
}

// identify binds the resolver of requests' owners to the collector.
func identify(id *pipeline.Identity) func() collector.Identify {
	return func() collector.Identify {
		r, context := id.NewResolver(), id.NewAnnotator()
		return func(req *pipeline.Request, f *collector.Fields) {
			r.Resolve(req, &f.Clear)
			context.Annotate(req)
			if _, known := id.Known(req); known {
				req.Flags |= pipeline.FlagKnown
			}
		}
	}
}

// tally sums up what reading came to.
type tally struct {
	lines   int64
	parsed  int64
	bytes   int64
	reasons map[string]int64
	samples []pipeline.RejectSample
	names   []string // source of each sample
	packets []string // what captures came to, for people
	errs    []error
}

// capture notes what a capture file came to, once it is read; r may be anything.
func (t *tally) capture(name string, r reader) {
	if c, ok := r.(*mirror.Reader); ok {
		sum := c.Summary()
		for _, line := range sum.Lines(detectorNames()...) {
			t.packets = append(t.packets, name+": "+line)
		}
	}
}

const maxSamples = 8

func (t *tally) add(b *pipeline.Block) {
	t.lines += b.Rejects.Lines
	t.parsed += int64(len(b.Requests))
	for reason, n := range b.Rejects.Reason {
		if t.reasons == nil {
			t.reasons = map[string]int64{}
		}
		t.reasons[reason] += n
	}
	for _, s := range b.Rejects.Sample {
		if len(t.samples) < maxSamples {
			t.samples = append(t.samples, s)
			t.names = append(t.names, b.Source)
		}
	}
}

func (t *tally) rejected() (n int64) {
	for _, v := range t.reasons {
		n += v
	}
	return n
}

// disorder measures how far behind the latest time lines come, per source.
type disorder struct {
	max   pipeline.Time
	worst pipeline.Time
	begun bool
}

// maxLateness is how much disorder a fit answers with sorting.
const maxLateness = 120e6

func (d *disorder) observe(t pipeline.Time) {
	switch {
	case !d.begun || t > d.max && t.Sub(d.max) <= 3600e9:
		d.begun, d.max = true, t
	case t < d.max && d.max-t <= maxLateness:
		d.worst = max(d.worst, d.max-t)
	case t < d.max:
		d.worst = maxLateness
	}
}

// expectedLines is about how many lines the inputs hold, rather fewer, judged by
// their first lines; 0 when that cannot be told without reading them.
func expectedLines(ins []input) (n int64) {
	for _, in := range ins {
		st, err := os.Stat(in.path)
		if err != nil || compressed(in.path) {
			return 0
		}
		if in.packets {
			continue // most of it is no requests
		}
		head, err := collector.Head(in.path)
		if err != nil || len(head) == 0 {
			continue
		}
		bytes := 0
		for _, line := range head {
			bytes += len(line) + 1
		}
		n += st.Size() * int64(len(head)) / int64(bytes) * 9 / 10
	}
	return n
}

// fit reads the inputs once and learns an edition from them.
func fit(ctx context.Context, ins []input, id *pipeline.Identity, workers int, prefilter bool, skip *unlearned, progress func(collector.FileStats)) (*pipeline.Edition, error) {
	fitter := detectors.NewFitter()
	fitter.Expect(expectedLines(ins))
	var worst pipeline.Time
	for _, in := range ins {
		var keep func([]byte) bool
		if prefilter {
			keep = func(prefix []byte) bool {
				owner, ok := pipeline.AddressOwner(prefix)
				return !ok || fitter.Keeps(owner)
			}
		}
		r := in.open(id, workers, keep)
		var d disorder
		folds := newFold(in.how.Timezone)
		for {
			b, err := r.Next(ctx)
			if err != nil {
				if ctx.Err() != nil {
					r.Close()
					return nil, ctx.Err()
				}
				if errors.Is(err, io.EOF) {
					break
				}
				continue // the detection pass says what is wrong with the input
			}
			folds.fix(b)
			for i := range b.Requests {
				d.observe(b.Requests[i].Time)
				if !skip.skips(&b.Requests[i], b) {
					fitter.Add(&b.Requests[i])
				}
			}
			r.Release(b)
			if progress != nil {
				progress(r.Stats())
			}
		}
		r.Close()
		worst = max(worst, d.worst)
	}
	lateness := worst.Sub(0)
	return fitter.Fit(lateness)
}
