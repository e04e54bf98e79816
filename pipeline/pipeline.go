// Package pipeline holds what every stage of weir shares: the records that
// travel (Request, Signal, Finding, Alert, Edition), the block that carries
// requests, the order they are taken in, and the rules that decide who owns a
// request and which endpoint it belongs to.
//
// Data goes one way: collect → detect → correlate → alert → deliver. A stage
// imports this package and no other stage; only cmd/weir sees two of them.
package pipeline

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Time is an event time in microseconds since the Unix epoch, UTC.
type Time int64

// NoTime is the absence of a time; it sorts before every other.
const NoTime Time = math.MinInt64

// MaxTime is later than every other. As a Watermark it says that a source is
// idle while its event time is not known.
const MaxTime Time = math.MaxInt64

// TimeOf converts t, which may be from any year between 0001 and 9999.
func TimeOf(t time.Time) Time { return Time(t.Unix()*1e6 + int64(t.Nanosecond())/1e3) }

// Std returns t as a time.Time in UTC.
func (t Time) Std() time.Time {
	s, us := int64(t)/1e6, int64(t)%1e6
	if us < 0 {
		s, us = s-1, us+1e6
	}
	return time.Unix(s, us*1e3).UTC()
}

// Add returns t moved by d, to the microsecond.
func (t Time) Add(d time.Duration) Time { return t + Time(d/time.Microsecond) }

// Sub returns t-u, saturated to what a Duration can hold (292 years).
func (t Time) Sub(u Time) time.Duration {
	us := int64(t) - int64(u)
	const limit = math.MaxInt64 / 1000
	if us > limit {
		return math.MaxInt64
	}
	if us < -limit {
		return math.MinInt64
	}
	return time.Duration(us) * time.Microsecond
}

// MarshalText writes t as RFC 3339 in UTC with as many digits as it has.
func (t Time) MarshalText() ([]byte, error) {
	return t.Std().AppendFormat(nil, time.RFC3339Nano), nil
}

// UnmarshalText reads what MarshalText writes, years beyond 9999 and before 0
// included.
func (t *Time) UnmarshalText(b []byte) error {
	s := string(b)
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		// The calendar repeats every 400 years.
		year, rest, ok := strings.Cut(s[min(len(s), 1):], "-")
		n, bad := strconv.ParseInt(s[:min(len(s), 1)]+year, 10, 32)
		if !ok || bad != nil {
			return err
		}
		cycles := (n - 2000) / 400
		at, err = time.Parse(time.RFC3339Nano, fmt.Sprintf("%04d-%s", n-400*cycles, rest))
		if err != nil {
			return err
		}
		*t = TimeOf(at) + Time(cycles*146097*86400e6)
		return nil
	}
	*t = TimeOf(at)
	return nil
}
