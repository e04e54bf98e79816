package detectors

import (
	"fmt"
	"time"

	"weir/pipeline"
)

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func when(is bool, s string) string {
	if is {
		return s
	}
	return ""
}

// blockAdvice says whom a block would hit.
func blockAdvice(f *pipeline.Finding) string {
	who := f.Who.Value
	switch f.Who.Kind {
	case pipeline.PrincipalAccount, pipeline.PrincipalSubject:
		return "Suspend or rate-limit account " + who + " and ask its owner"
	case pipeline.PrincipalKey:
		return "Rotate or suspend API key " + who
	case pipeline.PrincipalSession:
		return "End session " + who
	}
	if f.People[1] > 2 {
		return fmt.Sprintf("Rate-limit %s rather than block it: %d to %d people may be behind it", who, f.People[0], f.People[1])
	}
	return fmt.Sprintf("Block %s for 4 h: no other user seen behind it", who)
}

// span says how long something took, in words a person would use.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "no time"
	case d < 2*time.Second:
		return "about a second"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds", int(d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}
