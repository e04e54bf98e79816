package collector

import (
	"errors"
	"fmt"
	"strings"
)

// CompileApache compiles an Apache LogFormat: its text alone, or as httpd.conf
// has it, with LogFormat, quotes and nickname. Headers, notes and variables that
// weir has no use for are skipped. Errors name the column, counted from 1 in the
// text that remains when the quotes of httpd.conf are gone.
func CompileApache(logFormat string, opt ParseOptions) (Format, error) {
	l, err := compileApache(logFormat)
	if err != nil {
		return Format{}, fmt.Errorf("compile Apache LogFormat %q: %w", clip(strings.TrimSpace(logFormat), 120), err)
	}
	return l.format("apache", "Apache LogFormat", opt), nil
}

func compileApache(text string) (*layout, error) {
	if len(text) > maxFormat {
		return nil, fmt.Errorf("longer than %d bytes", maxFormat)
	}
	text, quoted := unquoteApache(text)
	b := &builder{}
	for i := 0; i < len(text); {
		switch {
		case text[i] == '\\' && i+1 < len(text) && strings.IndexByte(`"\tnr`, text[i+1]) >= 0 && (quoted || text[i+1] != '\\'):
			b.literal(map[byte]byte{'"': '"', '\\': '\\', 't': '\t', 'n': '\n', 'r': '\r'}[text[i+1]])
			i += 2
		case text[i] == '%' && i+1 < len(text) && text[i+1] == '%':
			b.literal('%')
			i += 2
		case text[i] == '%':
			d, n, err := apacheDirective(text[i:])
			if err != nil {
				return nil, errors.Join(append(b.errs, fmt.Errorf("column %d: %w", i+1, err))...)
			}
			o, err := d.value()
			if err != nil {
				b.errs = append(b.errs, fmt.Errorf("column %d: %w", i+1, err))
			} else {
				b.value(o, text[i:i+n], i+1)
			}
			i += n
		default:
			b.literal(text[i])
			i++
		}
	}
	return b.finish()
}

// unquoteApache takes off what httpd.conf puts around a format and reports
// whether there was any.
func unquoteApache(text string) (string, bool) {
	s := strings.TrimSpace(text)
	directive := false
	for _, name := range [...]string{"LogFormat", "CustomLog"} {
		if len(s) > len(name) && strings.EqualFold(s[:len(name)], name) && (s[len(name)] == ' ' || s[len(name)] == '\t') {
			s, directive = strings.TrimSpace(s[len(name):]), true
			if i := strings.IndexByte(s, '"'); i > 0 && name == "CustomLog" {
				s = s[i:]
			}
		}
	}
	if len(s) < 2 || s[0] != '"' && s[0] != '\'' {
		return s, directive
	}
	end := 1
	for ; end < len(s) && s[end] != s[0]; end++ {
		if s[end] == '\\' {
			end++
		}
	}
	if end >= len(s) {
		return s, directive
	}
	// A quote in the middle of a bare format is followed by more of the format.
	rest := strings.TrimSpace(s[end+1:])
	inner := s[1:end]
	if directive || rest == "" && (strings.Contains(inner, `\"`) || strings.Count(inner, "%") > 1) {
		return inner, true
	}
	return s, false
}

// directive is one %directive: its letter ("^ti" for the long ones) and what is
// in braces.
type directive struct {
	letter string
	arg    string
	last   bool // '>': of the request after internal redirects
}

// apacheDirective reads a directive at the start of s and returns its length.
func apacheDirective(s string) (d directive, n int, err error) {
	n = 1
	for n < len(s) && strings.IndexByte("!<>,0123456789", s[n]) >= 0 {
		d.last = d.last || s[n] == '>'
		n++
	}
	if n < len(s) && s[n] == '{' {
		end := strings.IndexByte(s[n:], '}')
		if end < 0 {
			return d, 0, fmt.Errorf("%s: the { is not closed", clip(s, 20))
		}
		d.arg = s[n+1 : n+end]
		n += end + 1
	}
	for n < len(s) && strings.IndexByte("!<>,0123456789", s[n]) >= 0 {
		d.last = d.last || s[n] == '>'
		n++
	}
	size := 1
	if n < len(s) && s[n] == '^' {
		size = 3
	}
	if n+size > len(s) {
		return d, 0, fmt.Errorf("%s: a %% with no letter behind it", clip(s, 20))
	}
	d.letter = s[n : n+size]
	return d, n + size, nil
}

// value is what a directive logs.
func (d directive) value() (op, error) {
	header := strings.ToLower(d.arg)
	switch d.letter {
	case "h":
		return op{slot: slotRemote, kind: kindToken}, nil
	case "a":
		if header == "c" {
			return op{slot: slotPeer, kind: kindToken}, nil
		}
		return op{slot: slotRemote, kind: kindToken}, nil
	case "l", "p", "P", "k", "A", "X", "R", "L":
		return op{kind: kindToken}, nil
	case "u":
		return op{slot: slotUser}, nil
	case "t":
		return apacheTime(d.arg)
	case "r":
		return op{slot: slotRequest}, nil
	case "m":
		return op{slot: slotMethod, kind: kindToken}, nil
	case "U":
		return op{slot: slotPath}, nil
	case "q":
		return op{slot: slotQuery}, nil
	case "H":
		return op{slot: slotProtocol, kind: kindToken}, nil
	case "s":
		if d.last {
			return op{slot: slotStatus, kind: kindStatus}, nil
		}
		return op{slot: slotStatusFirst, kind: kindStatus}, nil
	case "b":
		return op{slot: slotBytesCLF, kind: kindNumber}, nil
	case "B":
		return op{slot: slotBytes, kind: kindNumber}, nil
	case "O":
		return op{slot: slotBytesSent, kind: kindNumber}, nil
	case "I", "S":
		return op{kind: kindNumber}, nil
	case "D":
		return op{slot: slotMicros, kind: kindNumber}, nil
	case "T":
		return apacheSeconds(header)
	case "v", "V":
		if d.letter == "v" {
			return op{slot: slotServerName, kind: kindToken}, nil
		}
		return op{slot: slotHost}, nil
	case "i":
		return op{slot: headerSlot(header)}, nil
	case "C":
		if isSessionCookie([]byte(d.arg)) {
			return op{slot: slotSession}, nil
		}
		return op{}, nil
	case "e", "n":
		return op{slot: namedSlot(header)}, nil
	case "o":
		return op{slot: answerSlot(header)}, nil
	case "x", "f", "^ti", "^to", "^FB", "^FU":
		return op{}, nil
	case "c":
		if header == "" {
			return op{kind: kindToken}, nil
		}
		return op{}, nil
	}
	return op{}, fmt.Errorf("%%%s: Apache has no such directive", clip(d.letter, 8))
}

func apacheSeconds(unit string) (op, error) {
	switch unit {
	case "", "s":
		return op{slot: slotSeconds, kind: kindNumber}, nil
	case "ms":
		return op{slot: slotMillis, kind: kindNumber}, nil
	case "us":
		return op{slot: slotMicros, kind: kindNumber}, nil
	}
	return op{}, fmt.Errorf("%%{%s}T: the unit is s, ms or us", clip(unit, 20))
}

func apacheTime(format string) (op, error) {
	o := op{slot: slotTime, kind: kindTime}
	for _, from := range [...]string{"begin:", "end:"} {
		format = strings.TrimPrefix(format, from)
	}
	switch format {
	case "":
		o.stamp = stampBracketed
	case "sec":
		o.stamp = stampSeconds
	case "msec":
		o.stamp = stampEpoch(3)
	case "usec":
		o.stamp = stampEpoch(0)
	case "msec_frac":
		o.stamp = stampFraction(3)
	case "usec_frac":
		o.stamp = stampFraction(6)
	default:
		var err error
		o.stamp, err = compileStrftime(format)
		return o, err
	}
	return o, nil
}
