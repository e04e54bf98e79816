package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
)

// The configurations in deploy/clients, each held against the OpenAPI document
// and, as far as what runs them is here, run against weir.

func clientFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repositoryRoot(t), "deploy", "clients", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkCall holds a client's request against the document and sends it.
func checkCall(t *testing.T, s *service, token, address string, parameters map[string]string, headers map[string]string) []byte {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.RawQuery != "" {
		t.Fatalf("address %s: %v", address, err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Roles      []string `json:"x-roles"`
			Parameters []struct {
				Name string `json:"name"`
				Ref  string `json:"$ref"`
			} `json:"parameters"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(readPage(t, "console/openapi.json")), &doc); err != nil {
		t.Fatal(err)
	}
	operation, ok := doc.Paths[u.Path]["get"]
	if !ok || !slices.Contains(operation.Roles, "feed") {
		t.Fatalf("GET %s is not in the document, or not for the role feed", u.Path)
	}
	q := url.Values{}
	for name, value := range parameters {
		if value != "" {
			q.Set(name, value)
		}
		found := false
		for _, p := range operation.Parameters {
			found = found || p.Name == name || strings.HasSuffix(p.Ref, "/"+name)
		}
		if !found {
			t.Errorf("GET %s has no parameter %s", u.Path, name)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, u.Path+"?"+q.Encode(), nil)
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+token)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.newServer().Handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", r.URL, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func TestClientFilebeat(t *testing.T) {
	var file struct {
		Inputs []struct {
			Type     string            `yaml:"type"`
			ID       string            `yaml:"id"`
			Interval string            `yaml:"interval"`
			URL      string            `yaml:"resource.url"`
			Timeout  string            `yaml:"resource.timeout"`
			State    map[string]string `yaml:"state"`
			Redact   struct {
				Fields []string `yaml:"fields"`
			} `yaml:"redact"`
			Program    string           `yaml:"program"`
			Processors []map[string]any `yaml:"processors"`
		} `yaml:"filebeat.inputs"`
	}
	if err := yaml.Load(clientFile(t, "filebeat/weir.yml"), &file, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	in := file.Inputs[0]
	if in.Type != "cel" || !slices.Contains(in.Redact.Fields, "token") || in.State["token"] != "${WEIR_TOKEN}" {
		t.Errorf("%+v", in)
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		code := regexp.MustCompile(`"[^"]*"|//.*`).ReplaceAllString(in.Program, "")
		if strings.Count(code, pair[:1]) != strings.Count(code, pair[1:]) {
			t.Errorf("the program's %s do not match", pair)
		}
	}
	head, _, _ := strings.Cut(in.Program, ".format_query()")
	parameters := map[string]string{}
	for _, m := range regexp.MustCompile(`\??"(\w+)": `).FindAllStringSubmatch(head, -1) {
		parameters[m[1]] = map[string]string{"limit": in.State["limit"], "heartbeat": "true"}[m[1]]
	}
	if len(parameters) != 3 {
		t.Errorf("parameters %v", parameters)
	}
	s := consoleService(t)
	token := giveToken(t, s, console.Feed)
	putAlerts(t, s.db, consoleAlert("a", 1, "high"))
	body := checkCall(t, s, token, in.URL, parameters, map[string]string{"Accept": "application/json"})
	// What the program reads of an answer is there.
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, m := range regexp.MustCompile(`body\.(\w+)`).FindAllStringSubmatch(in.Program, -1) {
		if _, ok := answer[m[1]]; !ok && m[1] != "detail" && m[1] != "oldest_cursor" {
			t.Errorf("an answer has no %s", m[1])
		}
		read++
	}
	if read < 5 {
		t.Errorf("it reads %d members", read)
	}
}

// TestClientSentinel polls as the connector's PersistentToken says.
func TestClientSentinel(t *testing.T) {
	var connectors []struct {
		Kind       string
		Properties struct {
			DCR     struct{ StreamName string } `json:"dcrConfig"`
			Auth    struct{ Type, ApiKeyName, ApiKeyIdentifier string }
			Request struct {
				Endpoint   string            `json:"apiEndpoint"`
				Method     string            `json:"httpMethod"`
				Parameters map[string]string `json:"queryParameters"`
				Headers    map[string]string
				Timeout    int `json:"timeoutInSeconds"`
			}
			Paging struct {
				Type string `json:"pagingType"`
				Path string `json:"nextPageTokenJsonPath"`
				Name string `json:"nextPageParaName"`
				More string `json:"hasNextFlagJsonPath"`
			}
			Response struct {
				Paths  []string `json:"eventsJsonPaths"`
				Format string
			}
		}
	}
	if err := json.Unmarshal(clientFile(t, "sentinel/poller.json"), &connectors); err != nil {
		t.Fatal(err)
	}
	c := connectors[0].Properties
	if connectors[0].Kind != "RestApiPoller" || c.Auth.ApiKeyName != "Authorization" || c.Auth.ApiKeyIdentifier != "Bearer" || c.Request.Method != "Get" ||
		c.Paging.Type != "PersistentToken" || c.Response.Format != "json" || c.Request.Timeout < 1 || c.Request.Timeout > 180 {
		t.Errorf("%+v", c)
	}
	s := consoleService(t)
	token := giveToken(t, s, console.Feed)
	const total = 1203
	var list []pipeline.Alert
	for i := range total {
		list = append(list, consoleAlert(fmt.Sprint("a", i), 1, "high"))
	}
	putAlerts(t, s.db, list...)
	member := func(answer map[string]any, path string) any { return answer[strings.TrimPrefix(path, "$.")] }
	ids := map[any]int{}
	cursor := ""
	var columns []string
	for more := true; more; {
		c.Request.Parameters[c.Paging.Name] = cursor
		var answer map[string]any
		if err := json.Unmarshal(checkCall(t, s, token, c.Request.Endpoint, c.Request.Parameters, c.Request.Headers), &answer); err != nil {
			t.Fatal(err)
		}
		cursor, more = member(answer, c.Paging.Path).(string), member(answer, c.Paging.More).(bool)
		for _, row := range member(answer, c.Response.Paths[0]).([]any) {
			row := row.(map[string]any)
			for name := range row {
				if !slices.Contains(columns, name) {
					columns = append(columns, name)
				}
			}
			if row["schema"] == pipeline.AlertSchema {
				ids[row["id"]]++
			}
		}
	}
	if len(ids) != total {
		t.Errorf("%d alerts, want %d", len(ids), total)
	}
	checkSentinelRule(t, c.DCR.StreamName, columns)
}

// checkSentinelRule holds the collection rule against what rows have and what
// Log Analytics takes.
func checkSentinelRule(t *testing.T, stream string, columns []string) {
	t.Helper()
	var rule struct {
		Properties struct {
			Streams map[string]struct {
				Columns []struct{ Name, Type string }
			} `json:"streamDeclarations"`
			Flows []struct {
				Streams []string
				KQL     string `json:"transformKql"`
				Out     string `json:"outputStream"`
			} `json:"dataFlows"`
		}
	}
	if err := json.Unmarshal(clientFile(t, "sentinel/rule.json"), &rule); err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for _, c := range rule.Properties.Streams[stream].Columns {
		declared[c.Name] = true
		if !slices.Contains(columns, c.Name) {
			t.Errorf("no row has %s", c.Name)
		}
	}
	flow := rule.Properties.Flows[0]
	if len(declared) < 20 || !slices.Equal(flow.Streams, []string{stream}) || flow.Out != stream+"_CL" || !strings.Contains(flow.KQL, "extend TimeGenerated = ") {
		t.Errorf("%d columns, %+v", len(declared), flow)
	}
	_, renames, _ := strings.Cut(flow.KQL, "project-rename ")
	for pair := range strings.SplitSeq(renames, ", ") {
		to, from, ok := strings.Cut(pair, " = ")
		if !ok || !declared[from] || !regexp.MustCompile(`^[A-Z][A-Za-z0-9_]{0,44}$`).MatchString(to) || slices.Contains([]string{"Title", "Type", "TenantId", "UniqueId"}, to) {
			t.Errorf("renames %q", pair)
		}
		delete(declared, from)
	}
	if len(declared) > 0 {
		t.Errorf("columns with names that Log Analytics may not take: %v", declared)
	}
}

// readerScript runs the reader of Splunk and Vector.
func readerScript(t *testing.T, token string, args ...string) *exec.Cmd {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here: the reader for Splunk and Vector is not tried")
	}
	script := filepath.Join(repositoryRoot(t), "deploy", "clients", "splunk", "TA-weir", "bin", "read_feed.py")
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-B", script}, args...)...)
	cmd.Env = append(os.Environ(), "WEIR_TOKEN="+token)
	return cmd
}

// TestClientSplunk runs the reader against weir: what is new each time, a word
// when retention passed it, and an error for a token that does not hold.
func TestClientSplunk(t *testing.T) {
	s := consoleService(t)
	token := giveToken(t, s, console.Feed)
	server := httptest.NewServer(s.newServer().Handler)
	defer server.Close()
	state := filepath.Join(t.TempDir(), "cursor")
	read := func(token string, want int, args ...string) (rows []string) {
		t.Helper()
		cmd := readerScript(t, token, append([]string{server.URL + "/api/v1/feed/alerts", state}, args...)...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want || strings.Contains(errs.String(), token) {
			t.Fatalf("%v: %s", err, errs.String())
		}
		for line := range bytes.Lines(out) {
			var row struct{ Schema, ID string }
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			rows = append(rows, strings.TrimSuffix(row.Schema, "/1")+" "+row.ID)
		}
		return rows
	}
	var list []pipeline.Alert
	for i := range 700 {
		list = append(list, consoleAlert(fmt.Sprint("a", i), 1, "high"))
	}
	putAlerts(t, s.db, list...)
	if rows := read(token, 0); len(rows) != 700 || rows[699] != "weir.alert a699" {
		t.Errorf("%d rows", len(rows))
	}
	putAlerts(t, s.db, consoleAlert("b", 1, "high"))
	if rows := read(token, 0, "--heartbeat"); !slices.Equal(rows, []string{"weir.alert b", "weir.heartbeat "}) {
		t.Errorf("%v", rows)
	}
	other, _ := console.NewToken()
	read(other, 1)
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	// A cursor from a store that was longer.
	long := consoleService(t)
	long.pepper = s.pepper
	putAlerts(t, long.db, append(list, consoleAlert("b", 1, "high"), consoleAlert("c", 1, "high"))...)
	body := checkCall(t, long, giveToken(t, long, console.Feed), "https://x/api/v1/feed/alerts", map[string]string{"limit": "5000"}, nil)
	var page struct {
		Next string `json:"next_cursor"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, []byte(page.Next), 0o600); err != nil {
		t.Fatal(err)
	}
	if rows := read(token, 0); len(rows) != 702 || rows[0] != "weir.gap " {
		t.Errorf("%d rows: %.100v", len(rows), rows)
	}
	checkSplunkConf(t)
}

// checkSplunkConf reads the .conf files: stanzas and settings, of fields that
// alerts have.
func checkSplunkConf(t *testing.T) {
	t.Helper()
	var alert map[string]any
	if err := json.Unmarshal(alerts.AppendJSON(nil, &pipeline.Alert{}), &alert); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, name := range []string{"app", "inputs", "props", "eventtypes", "tags"} {
		stanza := ""
		for line := range strings.Lines(string(clientFile(t, "splunk/TA-weir/default/"+name+".conf"))) {
			line = strings.TrimSpace(line)
			key, value, ok := strings.Cut(line, " = ")
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
				stanza = line
			case stanza == "" || !ok:
				t.Errorf("%s.conf: %q", name, line)
			default:
				settings[stanza+key] = value
			}
		}
	}
	aliases := 0
	for key, value := range settings {
		if strings.Contains(key, "]FIELDALIAS-") {
			field, _, _ := strings.Cut(value, " AS ")
			top, _, _ := strings.Cut(strings.Trim(field, `"`), ".")
			if _, ok := alert[strings.TrimSuffix(top, "{}")]; !ok {
				t.Errorf("%s: an alert has no %s", key, field)
			}
			aliases++
		}
	}
	if aliases < 5 || settings["[weir_alert]search"] == "" || settings["[eventtype=weir_alert]alert"] != "enabled" {
		t.Errorf("%v", settings)
	}
	script := string(clientFile(t, "splunk/TA-weir/bin/read_feed.sh"))
	if _, ok := settings["[script://$SPLUNK_HOME/etc/apps/TA-weir/bin/read_feed.sh]interval"]; !ok || !strings.Contains(script, "/api/v1/feed/alerts") || !strings.Contains(script, "bin/read_feed.py") {
		t.Errorf("inputs.conf does not start the reader: %v", settings)
	}
}

// TestClientVector starts the program of the source as Vector would and reads
// what it prints until it has all.
func TestClientVector(t *testing.T) {
	var file struct {
		DataDir string `yaml:"data_dir"`
		Sources map[string]struct {
			Type      string            `yaml:"type"`
			Mode      string            `yaml:"mode"`
			Command   []string          `yaml:"command"`
			Streaming map[string]any    `yaml:"streaming"`
			Stderr    bool              `yaml:"include_stderr"`
			Framing   map[string]string `yaml:"framing"`
			Decoding  map[string]string `yaml:"decoding"`
		} `yaml:"sources"`
		Transforms map[string]struct {
			Type      string   `yaml:"type"`
			Inputs    []string `yaml:"inputs"`
			Condition string   `yaml:"condition"`
		} `yaml:"transforms"`
		Sinks map[string]struct {
			Type     string         `yaml:"type"`
			Inputs   []string       `yaml:"inputs"`
			Encoding map[string]any `yaml:"encoding"`
		} `yaml:"sinks"`
	}
	if err := yaml.Load(clientFile(t, "vector/vector.yaml"), &file, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	for _, c := range file.Transforms {
		for _, in := range c.Inputs {
			if _, ok := file.Sources[in]; !ok {
				t.Errorf("there is no source %s", in)
			}
		}
	}
	for _, c := range file.Sinks {
		for _, in := range c.Inputs {
			if _, ok := file.Transforms[in]; !ok {
				t.Errorf("there is no transform %s", in)
			}
		}
	}
	src := file.Sources["weir"]
	if src.Type != "exec" || src.Mode != "streaming" || src.Decoding["codec"] != "json" || src.Stderr || len(src.Command) < 4 || filepath.Base(src.Command[1]) != "read_feed.py" {
		t.Fatalf("%+v", src)
	}
	s := consoleService(t)
	token := giveToken(t, s, console.Feed)
	checkCall(t, s, token, src.Command[2], map[string]string{"limit": "500", "wait": "1", "heartbeat": "true", "cursor": ""}, map[string]string{"Accept": "application/x-ndjson"})
	server := httptest.NewServer(s.newServer().Handler)
	defer server.Close()
	u, err := url.Parse(src.Command[2])
	if err != nil {
		t.Fatal(err)
	}
	cmd := readerScript(t, token, append([]string{server.URL + u.Path, filepath.Join(t.TempDir(), "cursor")}, src.Command[4:]...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	got := 0
	putAlerts(t, s.db, consoleAlert("first", 1, "high"))
	for lines := bufio.NewScanner(out); got < 5 && lines.Scan(); {
		if strings.Contains(lines.Text(), `"weir.alert/1"`) {
			got++
			putAlerts(t, s.db, consoleAlert(fmt.Sprint("next", got), 1, "high"))
		}
	}
	if got != 5 {
		t.Errorf("%d alerts as they came", got)
	}
}
