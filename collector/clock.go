package collector

import (
	"encoding/binary"
	"math"
	"time"

	"weir/pipeline"
)

// clock reads time stamps. It remembers the last date and zone, or the last
// minute of a stamp without zone, because the next line nearly always shares
// them. One goroutine uses a clock.
type clock struct {
	loc *time.Location

	date0 uint64 // "02/Jan/2" of the date behind base
	date1 uint32 // "006:"
	zone0 uint32 // " -07"
	zone1 uint16 // "00"
	base  int64  // Unix seconds of that date's midnight in that zone

	ymd     int   // of the minute behind minute0: year*10000+month*100+day
	hm      int   // hour*60+minute
	minute0 int64 // Unix seconds
	minuted bool
}

func newClock(loc *time.Location) clock {
	if loc == nil {
		loc = time.UTC
	}
	return clock{loc: loc}
}

const (
	clfLen = len("02/Jan/2006:15:04:05 -0700")
	second = 1_000_000 // in pipeline.Time
)

// clf reads exactly clfLen bytes: 02/Jan/2006:15:04:05 -0700.
func (c *clock) clf(b []byte) (pipeline.Time, bool) {
	if len(b) != clfLen {
		return 0, false
	}
	d0, d1 := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	z0, z1 := binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint16(b[24:])
	if d0 != c.date0 || d1 != c.date1 || z0 != c.zone0 || z1 != c.zone1 {
		if !c.clfDate(b) {
			return 0, false
		}
		c.date0, c.date1, c.zone0, c.zone1 = d0, d1, z0, z1
	}
	h, m, s := two(b[12:]), two(b[15:]), two(b[18:])
	if h > 23 || m > 59 || s > 60 || b[14] != ':' || b[17] != ':' {
		return 0, false
	}
	return pipeline.Time((c.base + int64(h*3600+m*60+s)) * second), true
}

func (c *clock) clfDate(b []byte) bool {
	if b[2] != '/' || b[6] != '/' || b[11] != ':' || b[20] != ' ' {
		return false
	}
	mon, ok := monthOf(b[3:6])
	year := two(b[7:])*100 + two(b[9:])
	off, n, zok := zoneOf(b[21:])
	if !ok || !zok || n != 5 || !validDate(year, mon, two(b)) {
		return false
	}
	c.base = days(year, mon, two(b))*86400 - int64(off)
	return true
}

// clfLoose reads the same with a fraction of the second, or without zone.
func (c *clock) clfLoose(b []byte) (pipeline.Time, bool) {
	const bare = len("02/Jan/2006:15:04:05")
	if len(b) < bare || b[2] != '/' || b[6] != '/' || b[11] != ':' || b[14] != ':' || b[17] != ':' {
		return 0, false
	}
	mon, ok := monthOf(b[3:6])
	s := stamp{set: true, year: two(b[7:])*100 + two(b[9:]), mon: mon, day: two(b), hour: two(b[12:]), min: two(b[15:]), sec: two(b[18:])}
	b = b[bare:]
	if len(b) > 1 && (b[0] == '.' || b[0] == ',') {
		var n int
		s.micros, n = fraction(b[1:])
		b = b[1+n:]
	}
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	if len(b) > 0 {
		off, n, zoned := zoneOf(b)
		if !zoned || n != len(b) {
			return 0, false
		}
		s.zoned, s.zone = true, off
	}
	t, valid := s.time(c)
	return t, ok && valid
}

// iso reads a stamp like 2006-01-02T15:04:05.999+07:00 at the start of b and
// returns how long it is. The date may have slashes, a space may stand for the
// T, a comma for the point, and the zone may be missing.
func (c *clock) iso(b []byte) (t pipeline.Time, n int, ok bool) {
	if len(b) < 19 || (b[4] != '-' && b[4] != '/') || b[7] != b[4] || b[13] != ':' || b[16] != ':' {
		return 0, 0, false
	}
	if b[10] != 'T' && b[10] != ' ' && b[10] != 't' {
		return 0, 0, false
	}
	year, mon, day := two(b)*100+two(b[2:]), two(b[5:]), two(b[8:])
	h, m, s := two(b[11:]), two(b[14:]), two(b[17:])
	if !validDate(year, mon, day) || h > 23 || m > 59 || s > 60 {
		return 0, 0, false
	}
	n = 19
	var micros int64
	if len(b) > 20 && (b[19] == '.' || b[19] == ',') && b[20]-'0' < 10 {
		var fn int
		micros, fn = fraction(b[20:])
		n += 1 + fn
	}
	off, zn, zoned := zoneOf(b[n:])
	if !zoned && len(b) > n+1 && b[n] == ' ' {
		if off, zn, zoned = zoneOf(b[n+1:]); zoned {
			zn++
		}
	}
	if zoned {
		unix := days(year, mon, day)*86400 + int64(h*3600+m*60+s-off)
		return pipeline.Time(unix*second + micros), n + zn, true
	}
	return pipeline.Time((c.local(year, mon, day, h, m)+int64(s))*second + micros), n, true
}

// local returns the Unix seconds of a minute in c's location. A minute that the
// clocks there show twice is taken as the first.
func (c *clock) local(year, mon, day, h, m int) int64 {
	ymd, hm := year*10000+mon*100+day, h*60+m
	if !c.minuted || ymd != c.ymd || hm != c.hm {
		c.minuted, c.ymd, c.hm = true, ymd, hm
		if c.loc == time.UTC {
			c.minute0 = days(year, mon, day)*86400 + int64(hm*60)
		} else {
			t := time.Date(year, time.Month(mon), day, h, m, 0, 0, c.loc)
			for _, back := range [...]time.Duration{time.Hour, 30 * time.Minute} {
				if e := t.Add(-back); e.Hour() == t.Hour() && e.Minute() == t.Minute() {
					t = e
					break
				}
			}
			c.minute0 = t.Unix()
		}
	}
	return c.minute0
}

// any reads a whole stamp of any kind: an access log's, ISO 8601, or a number
// since 1970 in seconds, milliseconds, microseconds or nanoseconds by its size.
func (c *clock) any(b []byte) (pipeline.Time, bool) {
	if len(b) == clfLen+2 && b[0] == '[' && b[len(b)-1] == ']' {
		b = b[1 : len(b)-1]
	}
	if len(b) == clfLen && b[2] == '/' {
		return c.clf(b)
	}
	if len(b) > 6 && b[2] == '/' && b[6] == '/' {
		return c.clfLoose(b)
	}
	if len(b) == ansiLen && b[3] == ' ' && b[13] == ':' {
		return c.ansi(b)
	}
	if len(b) >= 19 && b[13] == ':' {
		t, n, ok := c.iso(b)
		return t, ok && n == len(b)
	}
	return epoch(b)
}

const ansiLen = len("Mon Jan _2 15:04:05 2006")

// ansi reads ansiLen bytes as the C library writes them.
func (c *clock) ansi(b []byte) (pipeline.Time, bool) {
	var s stamp
	if _, ok := s.strftime("%a %b %e %H:%M:%S %Y", b); !ok {
		return 0, false
	}
	return s.time(c)
}

// epoch reads a number since 1970; the unit follows from the size, as no log is
// older than 1973 or younger than the year 5000.
func epoch(b []byte) (pipeline.Time, bool) {
	s, ok := decimal(b, 0)
	var unit int
	switch {
	case !ok || s < 1e8:
		return 0, false
	case s < 1e11:
		unit = 6
	case s < 1e14:
		unit = 3
	case s < 1e17:
		unit = 0
	default:
		unit = -3
	}
	t, ok := decimal(b, unit)
	return pipeline.Time(t), ok
}

// decimal reads a whole non-negative decimal number, "12", "0.125", "1.5e3",
// and returns it times 10^shift, cut to an integer.
func decimal(b []byte, shift int) (int64, bool) {
	var mant uint64
	digits, exp, i := 0, 0, 0
	point := false
	for ; i < len(b); i++ {
		d := b[i] - '0'
		if d < 10 {
			digits++
			if mant < 1e17 {
				mant = mant*10 + uint64(d)
				if point {
					exp--
				}
			} else if !point {
				exp++
			}
			continue
		}
		if b[i] != '.' || point {
			break
		}
		point = true
	}
	if digits == 0 || digits > 400 {
		return 0, false
	}
	if i < len(b) {
		e, ok := exponent(b[i:])
		if !ok {
			return 0, false
		}
		exp += e
	}
	for exp += shift; exp < 0 && mant > 0; exp++ {
		mant /= 10
	}
	for ; exp > 0 && mant > 0; exp-- {
		if mant > math.MaxInt64/10 {
			return 0, false
		}
		mant *= 10
	}
	return int64(mant), mant <= math.MaxInt64
}

func exponent(b []byte) (int, bool) {
	if len(b) < 2 || b[0]|0x20 != 'e' {
		return 0, false
	}
	b = b[1:]
	neg := b[0] == '-'
	if neg || b[0] == '+' {
		b = b[1:]
	}
	v := 0
	for _, c := range b {
		if c-'0' > 9 || v > 1000 {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	if neg {
		v = -v
	}
	return v, len(b) > 0
}

// integer reads a whole non-negative integer.
func integer(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var v int64
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	return v, true
}

// fraction reads the digits of a fraction of a second as microseconds and
// returns how many there are.
func fraction(b []byte) (micros int64, n int) {
	unit := int64(100_000)
	for n < len(b) && b[n]-'0' < 10 {
		micros += int64(b[n]-'0') * unit
		unit /= 10
		n++
	}
	return micros, n
}

// zoneOf reads Z, UTC, GMT, +07, +0700 or +07:00 at the start of b, in seconds
// east of UTC.
func zoneOf(b []byte) (off, n int, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	switch b[0] {
	case 'Z', 'z':
		return 0, 1, true
	case 'U', 'G':
		if len(b) >= 3 && (string(b[:3]) == "UTC" || string(b[:3]) == "GMT") {
			return 0, 3, true
		}
		return 0, 0, false
	case '+', '-':
	default:
		return 0, 0, false
	}
	if len(b) < 3 || two(b[1:]) > 23 {
		return 0, 0, false
	}
	off, n = two(b[1:])*3600, 3
	if len(b) >= 6 && b[3] == ':' && two(b[4:]) < 60 {
		off, n = off+two(b[4:])*60, 6
	} else if len(b) >= 5 && two(b[3:]) < 60 {
		off, n = off+two(b[3:])*60, 5
	}
	if b[0] == '-' {
		off = -off
	}
	return off, n, true
}

// two reads two digits; anything else is a number too large for any field.
func two(b []byte) int {
	hi, lo := b[0]-'0', b[1]-'0'
	if hi > 9 || lo > 9 {
		return 1 << 20
	}
	return int(hi)*10 + int(lo)
}

// monthOf reads an English month's three letters.
func monthOf(b []byte) (int, bool) {
	const names = "janfebmaraprmayjunjulaugsepoctnovdec"
	for i := 0; i < len(names); i += 3 {
		if b[0]|0x20 == names[i] && b[1]|0x20 == names[i+1] && b[2]|0x20 == names[i+2] {
			return i/3 + 1, true
		}
	}
	return 0, false
}

func validDate(year, mon, day int) bool {
	if year < 1970 || year > 9999 || mon < 1 || mon > 12 || day < 1 {
		return false
	}
	last := 31
	switch mon {
	case 4, 6, 9, 11:
		last = 30
	case 2:
		last = 28
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			last = 29
		}
	}
	return day <= last
}

// days counts the days from 1970-01-01 in the Gregorian calendar.
func days(year, mon, day int) int64 {
	if mon <= 2 {
		year--
		mon += 12
	}
	era := year / 400
	y := year - era*400
	doy := (153*(mon-3)+2)/5 + day - 1
	return int64(era*146097 + y*365 + y/4 - y/100 + doy - 719468)
}
