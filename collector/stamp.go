package collector

import (
	"fmt"
	"strings"

	"weir/pipeline"
)

// stamp is the time of a line while its parts are read: whole stamps, or the
// parts that an Apache format names one by one.
type stamp struct {
	set    bool
	whole  bool // t is the time, but for micros
	zoned  bool
	t      pipeline.Time
	micros int64
	zone   int // seconds east of UTC

	year, mon, day, hour, min, sec int
	pm                             int // 0 no such part, 1 am, 2 pm
}

// time puts the parts together.
func (s *stamp) time(c *clock) (pipeline.Time, bool) {
	if s.whole {
		return s.t + pipeline.Time(s.micros), true
	}
	if s.pm > 0 {
		if s.hour > 12 || s.hour == 0 {
			return 0, false
		}
		s.hour = s.hour%12 + 12*(s.pm-1)
	}
	if !validDate(s.year, s.mon, s.day) || s.hour > 23 || s.min > 59 || s.sec > 60 {
		return 0, false
	}
	if s.zoned {
		unix := days(s.year, s.mon, s.day)*86400 + int64(s.hour*3600+s.min*60+s.sec-s.zone)
		return pipeline.Time(unix*second + s.micros), true
	}
	return pipeline.Time((c.local(s.year, s.mon, s.day, s.hour, s.min)+int64(s.sec))*second + s.micros), true
}

// stampCLF reads 02/Jan/2006:15:04:05 -0700.
func stampCLF(c *clock, b []byte, s *stamp) (int, bool) {
	if len(b) < clfLen {
		return 0, false
	}
	t, ok := c.clf(b[:clfLen])
	s.set, s.whole, s.t = true, true, t
	return clfLen, ok
}

// stampLoose reads 02/Jan/2006:15:04:05, a fraction perhaps, a zone perhaps.
func stampLoose(c *clock, b []byte, s *stamp) (int, bool) {
	n := len("02/Jan/2006:15:04:05")
	if len(b) < n {
		return 0, false
	}
	if n < len(b) && b[n] == '.' {
		_, digits := fraction(b[n+1:])
		n += 1 + digits
	}
	if n+1 < len(b) && b[n] == ' ' && (b[n+1] == '+' || b[n+1] == '-') {
		if _, zone, ok := zoneOf(b[n+1:]); ok {
			n += 1 + zone
		}
	}
	t, ok := c.clfLoose(b[:n])
	s.set, s.whole, s.t = true, true, t
	return n, ok
}

// stampBracketed reads the same in brackets.
func stampBracketed(c *clock, b []byte, s *stamp) (int, bool) {
	if len(b) < clfLen+2 || b[0] != '[' || b[clfLen+1] != ']' {
		return 0, false
	}
	_, ok := stampCLF(c, b[1:], s)
	return clfLen + 2, ok
}

// stampISO reads 2006-01-02T15:04:05+07:00 and its variants.
func stampISO(c *clock, b []byte, s *stamp) (int, bool) {
	t, n, ok := c.iso(b)
	s.set, s.whole, s.t = true, true, t
	return n, ok
}

// stampEpoch returns a reader of a number of 10^-shift microseconds since 1970.
func stampEpoch(shift int) func(*clock, []byte, *stamp) (int, bool) {
	return func(_ *clock, b []byte, s *stamp) (int, bool) {
		n := numberLen(b)
		t, ok := decimal(b[:n], shift)
		s.set, s.whole, s.t = true, true, pipeline.Time(t)
		return n, ok && n > 0
	}
}

// stampFraction reads exactly so many digits behind the second's point.
func stampFraction(digits int) func(*clock, []byte, *stamp) (int, bool) {
	return func(_ *clock, b []byte, s *stamp) (int, bool) {
		if len(b) < digits {
			return 0, false
		}
		v, n := fraction(b[:digits])
		s.micros = v
		return n, n == digits
	}
}

func numberLen(b []byte) int {
	for i, c := range b {
		if c-'0' > 9 && c != '.' {
			return i
		}
	}
	return len(b)
}

// compileStrftime compiles the part of strftime that access logs use.
func compileStrftime(format string) (func(*clock, []byte, *stamp) (int, bool), error) {
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			if format[i] == '\\' {
				return nil, fmt.Errorf("time format %q: a backslash in it", format)
			}
			out.WriteString(format[i : i+1])
			continue
		}
		if i++; i == len(format) {
			return nil, fmt.Errorf("time format %q ends in a lone %%", format)
		}
		switch format[i] {
		case 'T':
			out.WriteString("%H:%M:%S")
		case 'F':
			out.WriteString("%Y-%m-%d")
		case 'D', 'x':
			out.WriteString("%m/%d/%y")
		case 'R':
			out.WriteString("%H:%M")
		case 'r':
			out.WriteString("%I:%M:%S %p")
		case 'X':
			out.WriteString("%H:%M:%S")
		case 'c':
			out.WriteString("%a %b %e %H:%M:%S %Y")
		case 'n', 't':
			out.WriteString(" ")
		case '%':
			out.WriteString("%%")
		case 'Y', 'm', 'd', 'e', 'b', 'B', 'h', 'y', 'H', 'k', 'I', 'l', 'M', 'S', 'p', 'z', 'Z', 's', 'a', 'A', 'j', 'u', 'w':
			out.WriteString(format[i-1 : i+1])
		default:
			return nil, fmt.Errorf("time format %q: weir does not know %%%c", format, format[i])
		}
	}
	expanded := out.String()
	if len(expanded) > 200 {
		return nil, fmt.Errorf("time format %q is too long", clip(format, 40))
	}
	return func(_ *clock, b []byte, s *stamp) (int, bool) { return s.strftime(expanded, b) }, nil
}

// strftime reads the parts that format names at the start of b.
func (s *stamp) strftime(format string, b []byte) (int, bool) {
	pos := 0
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			if pos >= len(b) || b[pos] != format[i] {
				return 0, false
			}
			pos++
			continue
		}
		i++
		n, ok := s.part(format[i], b[pos:])
		if !ok {
			return 0, false
		}
		pos += n
	}
	s.set = true
	return pos, true
}

// part reads one conversion at the start of b and returns its length.
func (s *stamp) part(c byte, b []byte) (int, bool) {
	switch c {
	case '%':
		return 1, len(b) > 0 && b[0] == '%'
	case 'b', 'B', 'h', 'a', 'A', 'Z':
		n := 0
		for n < len(b) && b[n]|0x20-'a' < 26 {
			n++
		}
		if n < 3 {
			return 0, c == 'Z' && n > 0
		}
		if c == 'Z' {
			if string(b[:n]) == "UTC" || string(b[:n]) == "GMT" {
				s.zoned, s.zone = true, 0
			}
			return n, true
		}
		if c == 'a' || c == 'A' {
			return n, true
		}
		var ok bool
		s.mon, ok = monthOf(b[:3])
		return n, ok
	case 'p':
		if len(b) < 2 || b[1]|0x20 != 'm' || b[0]|0x20 != 'a' && b[0]|0x20 != 'p' {
			return 0, false
		}
		s.pm = 1
		if b[0]|0x20 == 'p' {
			s.pm = 2
		}
		return 2, true
	case 'z':
		off, n, ok := zoneOf(b)
		s.zoned, s.zone = true, off
		return n, ok
	case 's':
		n := numberLen(b)
		t, ok := decimal(b[:n], 6)
		s.whole, s.t = true, pipeline.Time(t)
		return n, ok && n > 0
	case 'Y':
		if len(b) < 4 {
			return 0, false
		}
		s.year = two(b)*100 + two(b[2:])
		return 4, s.year < 10000
	case 'j':
		return 3, len(b) >= 3 && two(b) < 100
	case 'u', 'w':
		return 1, len(b) > 0 && b[0]-'0' < 10
	}
	if len(b) < 2 {
		return 0, false
	}
	v := two(b)
	if b[0] == ' ' && b[1]-'0' < 10 { // padded
		v = int(b[1] - '0')
	}
	switch c {
	case 'm':
		s.mon = v
	case 'd', 'e':
		s.day = v
	case 'H', 'k', 'I', 'l':
		s.hour = v
	case 'M':
		s.min = v
	case 'S':
		s.sec = v
	case 'y':
		s.year = 2000 + v
		if v >= 69 {
			s.year = 1900 + v
		}
	}
	return 2, v < 100
}

// stampSeconds reads the ten digits of whole seconds since 1970.
func stampSeconds(_ *clock, b []byte, s *stamp) (int, bool) {
	const digits = 10
	if len(b) < digits {
		return 0, false
	}
	v, ok := integer(b[:digits])
	s.set, s.whole, s.t = true, true, pipeline.Time(v*second)
	return digits, ok
}
