package alerts

import (
	"strings"

	"weir/pipeline"
)

// shown is a as the sink is shown it.
func (c *courier) shown(a *pipeline.Alert) *pipeline.Alert {
	if c.open == nil {
		return a
	}
	return showNames(a, c.open)
}

// showNames returns a with the names of those that a responder has to act on: of each
// account that a login got into, and of the account or subject that the alert is
// about. They are shown wherever the alert says them; every other account stays a
// token. a itself is not changed.
func showNames(a *pipeline.Alert, open func(token string) (name string, ok bool)) *pipeline.Alert {
	var pairs []string
	seen := map[string]bool{}
	add := func(token string) {
		if seen[token] {
			return
		}
		seen[token] = true
		if name, ok := open(token); ok {
			pairs = append(pairs, token, name)
		}
	}
	if k := a.Principal.Kind; k == pipeline.PrincipalAccount || k == pipeline.PrincipalSubject {
		add(a.Principal.Value)
	}
	for _, acc := range a.Affected.Accounts {
		if acc.Outcome == "success" {
			add(acc.Name)
		}
	}
	if len(pairs) == 0 {
		return a
	}
	show := strings.NewReplacer(pairs...).Replace
	b := *a
	b.Title, b.Reason, b.WouldNotFireIf, b.Change.Text = show(a.Title), show(a.Reason), show(a.WouldNotFireIf), show(a.Change.Text)
	b.Next, b.BenignIf = mapped(a.Next, show), mapped(a.BenignIf, show)
	b.Principal.Value = show(a.Principal.Value)
	b.Members = copied(a.Members)
	for i := range b.Members {
		b.Members[i].Value = show(b.Members[i].Value)
	}
	b.Affected.Accounts = copied(a.Affected.Accounts)
	for i := range b.Affected.Accounts {
		b.Affected.Accounts[i].Name = show(b.Affected.Accounts[i].Name)
	}
	return &b
}

func mapped(list []string, f func(string) string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = f(s)
	}
	return out
}
