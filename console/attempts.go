package console

import (
	"net/netip"
	"strings"
	"sync"
	"time"
)

// What wrong passwords cost. So many are free, then each doubles the wait up to
// the longest; a wait is never an end: nobody can lock another out for good. The
// three are counted apart: one browser at one user, all at one user, one address
// at all users. A success forgets the first, and half of the second: who guesses
// for others' names with an own account in between gains nothing.
const (
	freePair, freeUser, freeAddress = 4, 20, 60
	firstWait, longestWait          = time.Second, 15 * time.Minute
	longestUser                     = time.Minute // others' tries must not keep somebody out for long
	forgetAfter                     = 30 * time.Minute
	maxAttempts                     = 8192 // remembered; the oldest go
)

// attempts remembers wrong passwords.
type attempts struct {
	mu   sync.Mutex
	list map[string]*attempt
}

type attempt struct {
	wrong int
	last  time.Time
	until time.Time // nobody is asked before
}

// attemptKey is what a try is counted under.
type attemptKey struct {
	text    string
	free    int
	longest time.Duration
	left    func(wrong int) int // of the wrong ones after a right one
}

// ofProvider is what a way back from a provider is counted under.
func ofProvider(address string) []attemptKey {
	return []attemptKey{{"provider " + wide(address), freeAddress, longestWait, func(int) int { return 0 }}}
}

// wide is what an address is counted as: an IPv6 address by its /64.
func wide(address string) string {
	if a, err := netip.ParseAddr(address); err == nil && a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return address
}

// ofPassword is what a password is counted under.
func ofPassword(user, address string) []attemptKey {
	user = strings.ToLower(user)
	if len(user) > maxUserName {
		user = user[:maxUserName]
	}
	address = wide(address)
	return []attemptKey{
		{"pair " + address + " " + user, freePair, longestWait, func(int) int { return 0 }},
		{"user " + user, freeUser, longestUser, func(n int) int { return n / 2 }},
		{"address " + address, freeAddress, longestWait, func(n int) int { return max(0, n-1) }},
	}
}

// wait says how long who is counted under keys has to wait before it is asked again.
func (l *attempts) wait(keys []attemptKey, now time.Time) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if a := l.list[key.text]; a != nil {
			longest = max(longest, a.until.Sub(now))
		}
	}
	return longest
}

// failed counts a try before it is made, so that tries at the same time count,
// too; good takes it back.
func (l *attempts) failed(keys []attemptKey, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		a := l.list[key.text]
		if a == nil || now.Sub(a.last) > forgetAfter {
			l.forget(now)
			a = &attempt{}
			l.list[key.text] = a
		}
		a.wrong++
		a.last = now
		if over := a.wrong - key.free; over > 0 {
			a.until = now.Add(min(key.longest, firstWait<<min(over-1, 20)))
		}
	}
}

// good says that the password was right.
func (l *attempts) good(keys []attemptKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if a := l.list[key.text]; a != nil {
			a.wrong, a.until = key.left(a.wrong), time.Time{}
		}
	}
}

// forget makes room; the caller holds mu.
func (l *attempts) forget(now time.Time) {
	if len(l.list) < maxAttempts {
		return
	}
	for key, a := range l.list {
		if now.Sub(a.last) > forgetAfter {
			delete(l.list, key)
		}
	}
	for len(l.list) >= maxAttempts {
		var oldest string
		for key, a := range l.list {
			if oldest == "" || a.last.Before(l.list[oldest].last) {
				oldest = key
			}
		}
		delete(l.list, oldest)
	}
}
