package console

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// How many requests a token has a minute. A poller takes two to thirty; one that
// catches up with the feed takes one for 5,000 rows. Callers on this machine
// without a token share many more.
const (
	ratePerMinute  = 600
	rateLocal      = 60_000
	rateWindow     = time.Minute
	maxCallers     = 4096 // remembered; more begin anew
	maxWaiting     = 128  // long polls and streams at a time
	maxWaitingEach = 16   // of one token
)

// rates counts the requests of each caller in windows of a minute, and its
// answers that last.
type rates struct {
	mu      sync.Mutex
	windows map[string]*rateWindowOf
	waiting map[string]int
	all     int
}

type rateWindowOf struct {
	end  time.Time
	used int
}

// take counts a request and says in h what is left, in the words of the draft
// of the IETF and in those that pollers read; false when nothing was.
func (l *rates) take(h http.Header, who *caller, now time.Time) bool {
	quota := ratePerMinute
	if who.local() {
		quota = rateLocal
	}
	l.mu.Lock()
	w := l.windows[who.key()]
	if w == nil || !now.Before(w.end) {
		if len(l.windows) >= maxCallers {
			clear(l.windows)
		}
		w = &rateWindowOf{end: now.Add(rateWindow)}
		l.windows[who.key()] = w
	}
	ok := w.used < quota
	if ok {
		w.used++
	}
	left, end := quota-w.used, w.end
	l.mu.Unlock()
	seconds := max(1, int((end.Sub(now)+time.Second-1)/time.Second))
	h.Set("RateLimit-Policy", fmt.Sprintf(`"requests";q=%d;w=%d`, quota, int(rateWindow/time.Second)))
	h.Set("RateLimit", fmt.Sprintf(`"requests";r=%d;t=%d`, left, seconds))
	reset := strconv.FormatInt((end.UnixNano()+int64(time.Second)-1)/int64(time.Second), 10)
	for _, dialect := range []string{"X-RateLimit-", "X-Rate-Limit-"} {
		h.Set(dialect+"Limit", strconv.Itoa(quota))
		h.Set(dialect+"Remaining", strconv.Itoa(left))
		h.Set(dialect+"Reset", reset)
	}
	if !ok {
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
	return ok
}

// wait admits an answer that lasts; done ends it.
func (l *rates) wait(who *caller) (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxWaiting || l.waiting[who.key()] >= maxWaitingEach {
		return nil, false
	}
	l.all++
	l.waiting[who.key()]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.waiting[who.key()]--; l.waiting[who.key()] == 0 {
			delete(l.waiting, who.key())
		}
	}, true
}
