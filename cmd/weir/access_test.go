package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/console"
	"weir/pipeline"
	"weir/storage/sqlite"
)

// TestServiceTokens: a token that is made while weir runs closes it at once, one
// that is revoked is refused at once, and the audit has all of it.
func TestServiceTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, store := filepath.Join(dir, "access.log"), filepath.Join(dir, "weir.db")
	if err := os.WriteFile(log, []byte(`198.51.100.7 - - [02/Mar/2026:09:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl"`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "run", "--store", store, "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	ask := func(token, path string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	f := func(token, path string, want int) {
		t.Helper()
		if got := ask(token, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	f("", "/api/v1/alerts", 200)
	made := weir(t, "token", "create", "--store", store, "--name", "siem", "--role", "feed")
	if made.code != exitOK {
		t.Fatalf("exit %d: %s", made.code, made.stderr)
	}
	token := strings.TrimSpace(string(made.stdout))
	f("", "/api/v1/alerts", 401)
	f("", "/healthz", 200)
	f(token, "/api/v1/feed/alerts", 200)
	f(token, "/api/v1/alerts", 403)
	_, rest, _ := strings.Cut(token, "_")
	id, _, _ := strings.Cut(rest, "_")
	if gone := weir(t, "token", "revoke", "--store", store, id); gone.code != exitOK {
		t.Fatalf("exit %d: %s", gone.code, gone.stderr)
	}
	f(token, "/api/v1/feed/alerts", 401)
	d.stop(t)
	var actions []string
	shown := weir(t, "audit", "show", "--store", store)
	for line := range strings.Lines(string(shown.stdout)) {
		var row struct{ Entry console.AuditEntry }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		actions = append(actions, row.Entry.Action+" "+row.Entry.Outcome)
		// As the guide says that anybody can check it.
		var raw struct {
			Seq        int64
			Prev, Hash string
			Entry      json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &raw); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s", raw.Prev, raw.Seq, raw.Entry)); hex.EncodeToString(sum[:]) != raw.Hash {
			t.Errorf("row %d does not hash to what it says", raw.Seq)
		}
	}
	want := "service.start success, token.create success, access denied, token.revoke success, access denied, service.stop success"
	if got := strings.Join(actions, ", "); got != want {
		t.Errorf("the audit has %s, want %s", got, want)
	}
	if strings.Contains(string(shown.stdout), token[20:]) {
		t.Error("the token is in the audit")
	}
	if checked := weir(t, "audit", "verify", "--store", store); checked.code != exitOK {
		t.Errorf("exit %d: %s", checked.code, checked.stderr)
	}
	data, err := os.ReadFile(store)
	if err != nil || strings.Contains(string(data), token[20:60]) {
		t.Errorf("the token is in the store: %v", err)
	}
	open := weir(t, "run", "-c", filepath.Join(repositoryRoot(t), "deploy", "examples", "minimal.yaml"), "--store", filepath.Join(dir, "new.db"), "--listen", "0.0.0.0:0", log)
	if open.code == exitOK {
		t.Error("it is open to others without TLS")
	}
}

// TestFirstLink: a start before there is anybody prints the way in, off loopback,
// too; one after that does not.
func TestFirstLink(t *testing.T) {
	s := consoleService(t)
	s.cfg.Console = console.Config{Listen: "0.0.0.0:0", InsecureHTTP: true}
	open := func() string {
		t.Helper()
		var said bytes.Buffer
		s.stderr = &said
		l, err := s.openSockets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = l.api.Close()
		return said.String()
	}
	first := open()
	_, secret, ok := strings.Cut(open(), "/first#")
	if !ok || !strings.Contains(first, "/first#") {
		t.Fatalf("%s", first)
	}
	secret, _, _ = strings.Cut(secret, "\n")
	_, old, _ := strings.Cut(first, "/first#")
	old, _, _ = strings.Cut(old, "\n")
	h := s.newServer().Handler
	ask := func(token string, want int) {
		t.Helper()
		body := fmt.Sprintf(`{"token":%q,"user":"root","password":"correct horse battery"}`, token)
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/session/first", strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%d, want %d: %s", w.Code, want, w.Body)
		}
	}
	ask(old, 401) // each start has its own
	ask(secret, 200)
	ask(secret, 401)
	if said := open(); said != "" {
		t.Errorf("%s", said)
	}
	stored, err := os.ReadFile(s.cfg.Store.Path)
	if err != nil || bytes.Contains(stored, []byte(secret)) {
		t.Errorf("the link is in the store: %v", err)
	}
}

// TestUsers: the shell makes a user, who signs in to the weir that runs, and ends
// what it made.
func TestUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, store := filepath.Join(dir, "access.log"), filepath.Join(dir, "weir.db")
	if err := os.WriteFile(log, []byte(`198.51.100.7 - - [02/Mar/2026:09:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl"`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "run", "--store", store, "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	typed := func(stdin string, want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(append([]string{"user"}, args...), "--store", store), strings.NewReader(stdin), &stdout, &stderr)
		if code != want {
			t.Errorf("weir user %v: exit %d: %s", args, code, stderr.String())
		}
		return stdout.String() + stderr.String()
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	ask := func(method, path, body string, want int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, d.url()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, want, text)
		}
	}
	const password = "correct horse battery"
	ask("GET", "/api/v1/alerts", "", 200)
	typed("short\n", exitFailed, "add", "ada", "--role", "analyst")
	typed(password+"\n", exitFailed, "add", "a da", "--role", "analyst")
	typed(password+"\n", exitOK, "add", "ada", "--role", "analyst", "--display", "Ada")
	typed(password+"\n", exitFailed, "add", "ADA", "--role", "analyst")
	ask("GET", "/api/v1/alerts", "", 401) // from now on it asks
	signIn := func(password string, want int) {
		t.Helper()
		ask("POST", "/api/v1/session", `{"user":"ada","password":"`+password+`"}`, want)
	}
	signIn(password, 200)
	ask("GET", "/api/v1/requests", "", 200)
	typed("", exitOK, "roles", "ada", "--role", "viewer")
	ask("GET", "/api/v1/requests", "", 403)
	typed("staple correct horse\n", exitOK, "passwd", "ada")
	ask("GET", "/api/v1/alerts", "", 401)
	signIn(password, 401)
	signIn("staple correct horse", 200)
	typed("", exitOK, "disable", "ada")
	ask("GET", "/api/v1/alerts", "", 401)
	typed("", exitOK, "enable", "ada")
	if list := typed("", exitOK, "list"); !strings.Contains(list, "ada") || !strings.Contains(list, "viewer") || strings.Contains(list, "argon2") {
		t.Errorf("%s", list)
	}
	typed(password+"\n", exitOK, "add", "root", "--role", "admin")
	typed("", exitFailed, "disable", "root")
	typed("", exitFailed, "disable", "nobody")
	d.stop(t)
	shown := string(weir(t, "audit", "show", "--store", store).stdout)
	for _, want := range []string{`"action":"user.create"`, `"action":"user.change"`, `"action":"user.password"`, `"action":"session.create","outcome":"success"`, `"action":"session.create","outcome":"denied"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("the audit lacks %s", want)
		}
	}
	if strings.Contains(shown, password) || strings.Contains(shown, "argon2") {
		t.Error("a password is in the audit")
	}
	if checked := weir(t, "audit", "verify", "--store", store); checked.code != exitOK {
		t.Errorf("exit %d: %s", checked.code, checked.stderr)
	}
}

// giveToken makes a token for a service of a test.
func giveToken(t *testing.T, s *service, roles console.Roles) string {
	t.Helper()
	f := tokenFlags{name: "test", expires: "1d", roles: roles.Names()}
	k, text, err := f.newToken(pipeline.Time(4e15).Std())
	if err != nil {
		t.Fatal(err)
	}
	k.MAC = s.pepper.MAC(text)
	by, err := shellEntry("token.create", tokenTarget(k.ID), nil, auditedToken(k))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.CreateToken(t.Context(), k, by); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRevealOfAnAlert: an analyst gets the names of exactly the accounts that an
// alert says the attacker got into, a viewer sees their tokens, and the audit
// says who asked.
func TestRevealOfAnAlert(t *testing.T) {
	s := consoleService(t)
	analyst, viewer := giveToken(t, s, console.Analyst), giveToken(t, s, console.Viewer)
	a := consoleAlert("a", 1, "high")
	for _, name := range []string{"alice@example.com", "bob", "carol"} {
		a.Affected.Accounts = append(a.Affected.Accounts, pipeline.AffectedAccount{Name: s.keys.AccountToken(name), Outcome: map[bool]string{true: "success", false: "failure"}[name != "bob"]})
	}
	putAlerts(t, s.db, a)
	h := s.newServer().Handler
	ask := func(token, method, path, body string, want int) []byte {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, w.Code, want, w.Body)
		}
		return w.Body.Bytes()
	}
	var page struct{ Data []pipeline.Alert }
	text := ask(viewer, "GET", "/api/v1/feed/alerts", "", 200)
	if err := json.Unmarshal(text, &page); err != nil || len(page.Data) != 1 || strings.Contains(string(text), "alice") {
		t.Fatalf("%s: %v", text, err)
	}
	q := struct {
		Tokens []string `json:"tokens"`
		Reason string   `json:"reason"`
		Alert  string   `json:"alert"`
	}{Reason: "reset passwords after stuffing", Alert: "a"}
	for _, c := range page.Data[0].Affected.Accounts {
		if c.Outcome == "success" {
			q.Tokens = append(q.Tokens, c.Name)
		}
	}
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	ask(viewer, "POST", "/api/v1/reveal", string(body), 403)
	var answer struct {
		Data []struct{ Token, Name string }
	}
	if err := json.Unmarshal(ask(analyst, "POST", "/api/v1/reveal", string(body), 200), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) != 2 || answer.Data[0].Name != "alice@example.com" || answer.Data[1].Name != "carol" {
		t.Errorf("%+v", answer)
	}
	rows, err := s.db.AuditAfter(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	last := string(rows[len(rows)-1].Body)
	if !strings.Contains(last, `"action":"names.reveal","outcome":"success"`) || !strings.Contains(last, q.Tokens[1]) || strings.Contains(last, "alice") {
		t.Errorf("%s", last)
	}
	// Without the audit no name is given.
	readOnly, err := sqlite.Open(s.cfg.Store.Path, sqlite.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	o := s.consoleOptions()
	o.Store, o.Register = consoleStore{readOnly}, nil
	h = console.NewServer(o).Handler
	if text := ask(analyst, "POST", "/api/v1/reveal", string(body), 500); strings.Contains(string(text), "alice") {
		t.Errorf("%s", text)
	}
}

// What an analyst makes of an alert is in all views of it, and in the audit, whose
// chain goes on.
func TestTriageOfAnAlert(t *testing.T) {
	s := consoleService(t)
	analyst, viewer := giveToken(t, s, console.Analyst), giveToken(t, s, console.Viewer)
	putAlerts(t, s.db, consoleAlert("a", 1, "high"), consoleAlert("b", 1, "high"))
	h := s.newServer().Handler
	ask := func(token, method, path, match, body string, want int) string {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("If-Match", match)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, w.Code, want, w.Body)
		}
		return w.Body.String()
	}
	const body = `{"status":"closed","verdict":"false_positive_data","comment":"a broken exporter"}`
	ask(viewer, "PATCH", "/api/v1/alerts/a", "0", body, 403)
	ask(analyst, "PATCH", "/api/v1/alerts/none", "0", body, 404)
	ask(analyst, "PATCH", "/api/v1/alerts/a", "0", body, 200)
	ask(analyst, "PATCH", "/api/v1/alerts/a", "0", `{"assignee":"bob"}`, 409)
	ask(analyst, "PATCH", "/api/v1/alerts/a", "1", `{"assignee":"bob"}`, 200)
	for _, path := range []string{"/api/v1/alerts", "/api/v1/alerts/a", "/api/v1/feed/alerts"} {
		var page struct{ Data []pipeline.Alert }
		if err := json.Unmarshal([]byte(ask(viewer, "GET", path, "", "", 200)), &page); err != nil || len(page.Data) == 0 {
			t.Fatalf("%s: %v", path, err)
		}
		for _, a := range page.Data {
			got := a.Envelope.Triage
			switch {
			case a.ID != "a" && len(got) != 0:
				t.Errorf("%s: alert %s has another's triage %v", path, a.ID, got)
			case a.ID == "a" && (got["verdict"] != "false_positive_data" || got["assignee"] != "bob" || got["revision"] != 2.0):
				t.Errorf("%s: %v", path, got)
			}
		}
	}
	rows, err := s.db.AuditAfter(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	for _, r := range rows {
		if strings.Contains(string(r.Body), `"action":"alert.triage","outcome":"success"`) {
			changes++
		}
	}
	if check, err := s.db.CheckAudit(t.Context()); err != nil || check.Broken != 0 || changes != 2 {
		t.Errorf("%d changes in the audit, %+v, %v", changes, check, err)
	}
}

// TestTokensOverTheStore: what an admin makes over the API is a token like any
// other, and the audit's chain has it.
func TestTokensOverTheStore(t *testing.T) {
	s := consoleService(t)
	admin := giveToken(t, s, console.Admin)
	h := s.newServer().Handler
	ask := func(token, method, path, body string, want int) []byte {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, w.Code, want, w.Body)
		}
		return w.Body.Bytes()
	}
	var made struct{ Token, ID string }
	if err := json.Unmarshal(ask(admin, "POST", "/api/v1/tokens", `{"name":"siem","roles":["feed"]}`, 201), &made); err != nil {
		t.Fatal(err)
	}
	ask(made.Token, "GET", "/api/v1/feed/alerts", "", 200)
	k, ok, err := s.db.Token(t.Context(), made.ID)
	if err != nil || !ok || k.Name != "siem" || k.Creator != "test" || k.Used == 0 {
		t.Errorf("%+v %t %v", k, ok, err)
	}
	if list := string(ask(admin, "GET", "/api/v1/tokens", "", 200)); !strings.Contains(list, made.ID) || strings.Contains(list, made.Token[20:]) {
		t.Error(list)
	}
	ask(admin, "DELETE", "/api/v1/tokens/none", "", 404)
	ask(admin, "DELETE", "/api/v1/tokens/"+made.ID, "", 200)
	ask(made.Token, "GET", "/api/v1/feed/alerts", "", 401)
	if check, err := s.db.CheckAudit(t.Context()); err != nil || check.Broken != 0 || check.Rows != 4 {
		t.Errorf("%+v, %v", check, err)
	}
}
