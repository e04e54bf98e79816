package console

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"weir/pipeline"
)

const (
	streamStep  = 200              // rows read at a time
	streamBeat  = 15 * time.Second // between signs of life
	streamWrite = 10 * time.Second // a reader that takes longer is closed
)

// stream answers a feed as server-sent events: each row is an event with its
// cursor as id, so that a reader comes back with Last-Event-ID. Every streamBeat
// there is at least a comment; the token is looked at again then.
func (c *console) stream(name string) handler {
	return func(w http.ResponseWriter, r *http.Request, who *caller) {
		f, err := newQuery(r.URL.RawQuery).feedStreamQuery(name)
		if last := r.Header.Get("Last-Event-ID"); err == nil && last != "" {
			f.cursor = last
		}
		var at position
		if err == nil {
			at, err = c.begin(r.Context(), &f)
		}
		if err == nil {
			err = c.openFeed(w, r, who, &f, at)
		}
		if err != nil {
			c.refuseFor(w, r, err)
			return
		}
		leave, ok := c.rates.wait(who)
		if !ok {
			w.Header().Set("Retry-After", "5")
			refuse(w, &problem{Status: http.StatusTooManyRequests, Detail: "too many streams"})
			return
		}
		defer leave()
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no") // nginx in front would hold it back
		if r.Method == http.MethodHead {
			return
		}
		s := &sender{console: c, w: w, rc: http.NewResponseController(w), r: r, f: &f, who: who, at: at}
		// An end is the reader's, or weir's: it comes back with its last id.
		_ = s.run()
	}
}

// sender writes one stream.
type sender struct {
	*console
	w   http.ResponseWriter
	rc  *http.ResponseController
	r   *http.Request
	f   *feedQuery
	who *caller
	at  position
}

func (s *sender) run() error {
	_ = s.rc.SetReadDeadline(time.Time{})
	if err := s.send("retry: 2000\n\n"); err != nil {
		return err
	}
	ctx, beaten := s.r.Context(), time.Now()
	for s.stop.Err() == nil {
		n, err := s.rows()
		if err != nil {
			return err
		}
		if time.Since(beaten) >= streamBeat {
			beaten = time.Now()
			if !s.still(ctx, s.who) {
				return nil
			}
			if err := s.sign(); err != nil {
				return err
			}
		}
		if n == 0 {
			if err := s.await(ctx, s.f.Feed, s.at.seq, streamBeat-time.Since(beaten)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rows writes what is there, up to a step.
func (s *sender) rows() (n int, err error) {
	done, err := s.turn(s.r.Context())
	if err != nil {
		return 0, err
	}
	g, err := s.read(s.r.Context(), s.f, s.at, streamStep)
	done()
	if p, ok := errors.AsType[*problem](err); ok { // retention has passed a stream on its way
		if err := s.send("id: %s\nevent: gone\ndata: {\"detail\":%q}\n\n", p.OldestCursor, p.Detail); err != nil {
			return 0, err
		}
	}
	if err != nil {
		return 0, err
	}
	if len(g.rows) == 0 {
		s.at = g.next
		return 0, nil
	}
	step := s.at
	for i, row := range g.rows {
		step.seq = g.seqs[i]
		if err := s.send("id: %s\nevent: %s\ndata: %s\n\n", s.seals.seal(s.f.filter, step), s.f.Feed, row); err != nil {
			return 0, err
		}
	}
	s.at = g.next
	s.readers.note(s.r.Context(), s.f.Feed, s.who, s.at.seq)
	return len(g.rows), nil
}

// sign says that the feed is alive, and moves the reader's id past rows that are
// not for it.
func (s *sender) sign() error {
	text := fmt.Sprintf(": alive %s\nid: %s\n", pipeline.TimeOf(time.Now()).Std().Format(time.RFC3339), s.seals.seal(s.f.filter, s.at))
	if s.f.beat {
		text += "event: heartbeat\ndata: " + string(s.beat(s.r.Context(), s.f.Feed)) + "\n"
	}
	return s.send("%s\n", text)
}

// send writes and flushes.
func (s *sender) send(format string, args ...any) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite))
	if _, err := fmt.Fprintf(s.w, format, args...); err != nil {
		return err
	}
	return s.rc.Flush()
}
