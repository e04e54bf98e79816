package alerts

import (
	"slices"

	"weir/pipeline"
)

// gather takes what f says of accounts: what one detector saw is not lost when
// another gives the incident its name.
func (inc *incident) gather(f *pipeline.Finding) {
	inc.Truncated = inc.Truncated || f.Truncated && len(f.Accounts) > 0
	for _, a := range f.Accounts {
		i := slices.IndexFunc(inc.Accounts, func(b pipeline.AffectedAccount) bool { return b.Name == a.Name })
		if i < 0 {
			inc.Accounts = append(inc.Accounts, a)
		} else if got(a) >= got(inc.Accounts[i]) {
			inc.Accounts[i] = a
		}
	}
	slices.SortStableFunc(inc.Accounts, func(a, b pipeline.AffectedAccount) int { return got(b) - got(a) })
	if len(inc.Accounts) > maxAccounts {
		inc.Accounts, inc.Truncated = inc.Accounts[:maxAccounts], true
	}
	if n := f.Outcome.Succeeded; n != nil && inc.Place.Family == "auth" && (inc.Worked == nil || *n > *inc.Worked) {
		inc.Worked = ptr(n)
	}
}

// got puts accounts that let the client in before the others.
func got(a pipeline.AffectedAccount) int {
	if a.Outcome == "success" {
		return 1
	}
	return 0
}

// hand gives the finding that names the incident what all have gathered.
func (inc *incident) hand() {
	f := &inc.Finding
	f.Accounts, f.Truncated = inc.Accounts, f.Truncated || inc.Truncated
	if n := f.Outcome.Succeeded; inc.Place.Family == "auth" && inc.Worked != nil && (n == nil && *inc.Worked > 0 || n != nil && *n < *inc.Worked) {
		f.Outcome.Succeeded = ptr(inc.Worked)
	}
}
