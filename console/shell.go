package console

import "net/http"

// NewShell returns what the API answers to somebody who has the store's file itself,
// and so may everything: for commands on this machine, in the same process. who goes
// into the audit. Of o it needs Store, Log and Resolve.
func NewShell(o Options, who AuditWho) http.Handler {
	c := newConsole(o)
	as := &caller{id: who.ID, name: who.Name, roles: Admin, shell: &who}
	mux := http.NewServeMux()
	for _, rt := range c.routes() {
		mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) { rt.handler(w, r, as) })
	}
	return mux
}
