package pipeline

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What a suppression may be.
const (
	MinSuppressionReason, maxSuppressionReason = 8, 500
	// MaxSuppression is the longest one; who is watched by nobody for longer is
	// looked at again by somebody.
	MaxSuppression = 366 * 24 * time.Hour
	maxMatch       = 512 // bytes of a value
	maxMatchLabels = 16
)

// Validate returns every problem of s, each with the member that it is about,
// joined; nil for none. Accounts and keys are to be tokens by then.
func (s *Suppression) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if n := utf8.RuneCountInString(s.Reason); n < MinSuppressionReason || n > maxSuppressionReason || strings.ContainsFunc(s.Reason, unicode.IsControl) {
		bad("reason: say why in %d to %d characters on one line", MinSuppressionReason, maxSuppressionReason)
	}
	switch {
	case s.Expires <= s.Starts:
		bad("expires: is not after the start")
	case s.Expires.Sub(s.Starts) > MaxSuppression:
		bad("expires: at most %d days after the start", MaxSuppression/(24*time.Hour))
	}
	if s.Schedule != nil {
		for _, day := range s.Schedule.Days {
			if !slices.Contains(Weekdays(), day) {
				bad("schedule.days: %q is none of %s", excerpt(day), strings.Join(Weekdays(), ", "))
			}
		}
		if err := s.Schedule.Validate(); err != nil {
			bad("schedule: %w; want from and to like 02:00, and a timezone like Europe/Berlin", err)
		}
	}
	return errors.Join(append(errs, s.Match.check(s.Maintenance))...)
}

func (m *SuppressionMatch) check(maintenance bool) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("match."+format, args...)) }
	if m.Empty() && !maintenance {
		errs = append(errs, errors.New("match: is empty; say what of: detector, principal, endpoint, address, account, key, client, labels, level"))
	}
	if strings.Trim(m.Detector, "abcdefghijklmnopqrstuvwxyz0123456789_.*") != "" || len(m.Detector) > 64 {
		bad("detector: %q is no detector like auth.stuffing and no family like auth", excerpt(m.Detector))
	}
	if levels := []string{"", "client", "account", "key", "cohort", "endpoint", "campaign"}; !slices.Contains(levels, m.Level) {
		bad("level: %q is none of %s", excerpt(m.Level), strings.Join(levels[1:], ", "))
	}
	if p := m.Principal; p != nil && (p.Kind == PrincipalNone || p.Value == "") {
		bad("principal: want a kind (ip, account, subject, key, session, cohort, endpoint) and a value")
	} else if p != nil && p.Kind == PrincipalIP {
		if a, ok := ParseAddress(p.Value); !ok || a.IsZero() {
			if _, err := netip.ParsePrefix(p.Value); err != nil {
				bad("principal.value: %q is no address", excerpt(p.Value))
			}
		}
	}
	if m.Address != "" && !readNetwork(m.Address).IsValid() {
		bad("address: %q is no address and no network like 192.0.2.0/24", excerpt(m.Address))
	}
	if e := m.Endpoint; e != nil && (e.Template != "" && e.Template[0] != '/' && e.Template != "{unknown}" || *e == EndpointMatch{}) {
		bad("endpoint: want a method and a template, like POST and /login")
	}
	if m.Client != "" && m.Address == "" && m.Account == "" && m.KeyBegins == "" {
		bad("client: identity.known_clients has no %q", excerpt(m.Client)) // else it would cover everybody
	}
	if len(m.Labels) > maxMatchLabels {
		bad("labels: at most %d", maxMatchLabels)
	}
	values := []string{m.Address, m.Account, m.Key, m.Client}
	if m.Principal != nil {
		values = append(values, m.Principal.Value)
	}
	if m.Endpoint != nil {
		values = append(values, m.Endpoint.Method, m.Endpoint.Host, m.Endpoint.Template)
	}
	for k, v := range m.Labels {
		values = append(values, k, v)
	}
	for _, v := range values {
		if len(v) > maxMatch || strings.ContainsFunc(v, unicode.IsControl) {
			bad("%q...: at most %d bytes on one line", excerpt(v), maxMatch)
			break
		}
	}
	return errors.Join(errs...)
}

func excerpt(s string) string { return strings.ToValidUTF8(s[:min(len(s), 64)], "\uFFFD") }

// Normalize writes s as weir compares it: an address as the principal that it is,
// times to the microsecond.
func (s *Suppression) Normalize() {
	if p := s.Match.Principal; p != nil && p.Kind == PrincipalIP {
		if a, ok := ParseAddress(p.Value); ok {
			s.Match.Principal = &Principal{PrincipalIP, a.PrincipalValue()}
		}
	}
	if e := s.Match.Endpoint; e != nil && *e == (EndpointMatch{}) {
		s.Match.Endpoint = nil
	}
	if p := s.Match.Principal; p != nil && *p == (Principal{}) {
		s.Match.Principal = nil
	}
	if len(s.Match.Labels) == 0 {
		s.Match.Labels = nil
	}
}
