package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/detectors"
	"weir/pipeline"
)

// maxMore bounds how many more requests are tried, maxTried of how many kinds.
const maxMore, maxTried = 1000, 3

// missing says what was missing. It is tried out: the client goes on, from where it
// was nearest, as it did before; of what it did, what takes the fewest more counts.
func (p *replay) missing(ctx context.Context, c *clientCase, why *reason) error {
	near := c.sorted()
	var least int64
	var of nearest
	var pace time.Duration
	for i := range near[:min(len(near), maxTried)] {
		n := &near[i]
		if n.counted == 0 {
			break
		}
		gap := n.pace()
		more, detector, err := p.goOn(ctx, c, n, gap)
		if err != nil {
			return err
		}
		if more > 0 && (least == 0 || more < least) {
			least, of, pace, why.detector = more, *n, gap, detector
		}
	}
	if least == 0 {
		n := near[0]
		why.of, why.every = c.moreOf(n.detector, n.what), seconds(n.pace())
		why.text = fmt.Sprintf("too little: %s came nearest, with %.2f of %.2f nats; more of the same would not raise it, not even %d (%s, one every %s s as before)",
			n.detector, n.best.Float(), pipeline.ReviewAt.Float(), maxMore, why.of, short(*why.every))
		return nil
	}
	best := near[slices.IndexFunc(near, func(n nearest) bool { return n.detector == why.detector })].best
	*why = hid("below", why.detector, best, "", "")
	why.more, why.of, why.every = &least, c.moreOf(of.detector, of.what), seconds(pace)
	why.text = fmt.Sprintf("too little: %s is nearest, with %.2f of %.2f nats; %d more would raise it (%s, one every %s s as before)",
		why.detector, best.Float(), pipeline.ReviewAt.Float(), least, why.of, short(*why.every))
	return nil
}

func seconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

// pace is the median time between what was counted.
func (n *nearest) pace() time.Duration {
	if len(n.gaps) == 0 {
		return time.Second
	}
	gaps := slices.Clone(n.gaps)
	slices.Sort(gaps)
	return max(time.Millisecond, gaps[len(gaps)/2])
}

// moreOf is what a detector counts, in words.
func (c *clientCase) moreOf(detector, what string) string {
	switch family := familyOf(detector); {
	case (family == "auth" || detector == "enum.user") && len(c.users) > 1:
		return "other accounts by " + what
	case detector == "probe.path":
		return "other paths like " + what
	case detector == "enum.object":
		return "other objects like " + what
	case detector == "scrape.crawl":
		return "other items like " + what
	}
	return "requests like " + what
}

var errEnough = errors.New("enough")

// goOn repeats the client's nearest request, each time with another path, object or
// account as the detector counts them, and returns after how many a case is made,
// and whose; 0 for never. Nobody else does anything meanwhile.
func (p *replay) goOn(ctx context.Context, c *clientCase, n *nearest, gap time.Duration) (more int64, detector string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	before := p.amend
	defer func() { p.amend = before }()
	over := false
	p.amend = func(b *pipeline.Block) {
		if before != nil {
			before(b)
		}
		if over {
			b.Requests = b.Requests[:0]
			return
		}
		i := slices.IndexFunc(b.Requests, func(r pipeline.Request) bool { return spotOf(b.Source, &r) == n.at })
		if i < 0 {
			return
		}
		over = true
		like := b.Requests[i]
		b.Requests = slices.Clone(b.Requests[:i+1])
		for k := range int64(maxMore) {
			r := like
			r.Line, r.Time = -1-k, like.Time.Add(time.Duration(k+1)*gap)
			another(&r, n.detector, len(c.users) > 1, k+1)
			b.Requests = append(b.Requests, r)
		}
		b.Watermark = pipeline.NoTime
	}
	_, err = p.run(ctx, nil, func(x detectors.Traced) {
		if more == 0 && x.Owner == c.owner && x.Request.Line < 0 && x.Counted && x.Score >= pipeline.ReviewAt && akin(x.Detector, n.detector) {
			more, detector = -x.Request.Line, x.Detector
			cancel(errEnough)
		}
	}, func(*pipeline.Alert) {})
	if err != nil && errors.Is(context.Cause(ctx), errEnough) {
		err = nil
	}
	return more, detector, err
}

// akin reports whether what one detector counted may be the other's case: what is
// asked at a login is guessing, stuffing or looking for accounts by how it goes on.
func akin(a, b string) bool {
	of := func(name string) string {
		if name == "enum.user" {
			return "auth"
		}
		return familyOf(name)
	}
	return of(a) == of(b)
}

// another makes r the k-th other one of what the detector counts.
func another(r *pipeline.Request, detector string, accounts bool, k int64) {
	if r.Flags&(pipeline.FlagLogin|pipeline.FlagAsks) != 0 {
		if r.LoginUser != "" && accounts {
			r.LoginUser = fmt.Sprintf("%s.%d", r.LoginUser, k)
		}
		return
	}
	if detector == "inject.probe" || detector == "volume.flood" {
		return
	}
	if number := strings.TrimRight(r.Path, "0123456789"); len(number) < len(r.Path) && len(r.Path)-len(number) <= 15 {
		var n int64
		if _, err := fmt.Sscan(r.Path[len(number):], &n); err == nil {
			r.Path = fmt.Sprintf("%s%d", number, n+k)
		}
	} else if dir := strings.LastIndexByte(r.Path, '/'); dir >= 0 {
		// In front of a suffix like .php, which says what it is.
		name, suffix, _ := strings.Cut(r.Path[dir:], ".")
		if suffix != "" {
			suffix = "." + suffix
		}
		r.Path = fmt.Sprintf("%s%s-%d%s", r.Path[:dir], name, k, suffix)
	}
	r.PathKey = 0
	r.Seal()
}
