package console

import (
	"fmt"
	"slices"
	"strings"
)

// Roles are what a token may do. A token without any may do nothing.
type Roles uint8

// The roles. What each may ask for stands in the table of routes.
const (
	Viewer   Roles = 1 << iota // reads alerts
	Analyst                    // reads requests, too, triages alerts and opens names, with a reason
	Engineer                   // as Analyst; sees who reads the feeds
	Feed                       // a machine: reads the feed of alerts, its own place in it, and decisions
	Admin                      // everything there is, the audit, too
	Auditor                    // reads the audit and who reads the feeds
)

// anyRole is for what everybody with a token may see.
const anyRole = Viewer | Analyst | Engineer | Feed | Admin | Auditor

// RoleNames lists the roles in the order of their bits.
func RoleNames() []string {
	return []string{"viewer", "analyst", "engineer", "feed", "admin", "auditor"}
}

// ParseRoles reads a list of role names: at least one, each of RoleNames.
func ParseRoles(names []string) (r Roles, err error) {
	for _, name := range names {
		i := slices.Index(RoleNames(), name)
		if i < 0 {
			return 0, fmt.Errorf("role %q is none of %s", name, strings.Join(RoleNames(), ", "))
		}
		r |= 1 << i
	}
	if r == 0 {
		return 0, fmt.Errorf("no role; there are %s", strings.Join(RoleNames(), ", "))
	}
	return r, nil
}

// rolesOf reads stored names; one that this weir does not know gives nothing.
func rolesOf(names []string) (r Roles) {
	for _, name := range names {
		if i := slices.Index(RoleNames(), name); i >= 0 {
			r |= 1 << i
		}
	}
	return r
}

// Names are r's names.
func (r Roles) Names() (names []string) {
	for i, name := range RoleNames() {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}
