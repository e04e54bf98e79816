// Labels turns the labels of recorded logs into weir's form, one JSON object a
// line on standard output.
//
//	go run ./bench/labels -sessions labels.tsv access.log.gz   # session_id TAB label
//	go run ./bench/labels -whole probe.path scanner.log.gz     # the busiest address is one attack
//
// With -sessions a session labelled "human" is benign, every other label is an
// episode of -type. A session's id is the word before the quoted user agent.
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "labels:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("labels", flag.ContinueOnError)
	fs.SetOutput(stderr)
	sessions := fs.String("sessions", "", "file of session_id TAB label")
	typ := fs.String("type", "scrape.crawl", "type of the episodes of -sessions")
	whole := fs.String("whole", "", "type of the one attack in the log")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 || (*sessions == "") == (*whole == "") {
		return errors.New("usage: labels -sessions FILE | -whole TYPE LOG")
	}
	clientOf, kind := addressOf, "ip:"
	if *sessions != "" {
		clientOf, kind = sessionOf, "session:"
	}
	seen, err := readSpans(fs.Arg(0), clientOf)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	w := bufio.NewWriter(stdout)
	enc := json.NewEncoder(w)
	episode := func(id, typ, client, note string, s span) error {
		return enc.Encode(map[string]any{
			"episode": id, "type": typ, "principals": []string{kind + client}, "note": note,
			"start": s.first.UTC().Format(time.RFC3339), "end": s.last.UTC().Format(time.RFC3339), "requests": s.requests,
		})
	}
	if *whole != "" {
		client := busiest(seen)
		err = episode("whole", *whole, client, "", seen[client])
	} else {
		var pairs [][2]string
		if pairs, err = readTSV(*sessions); err != nil {
			return fmt.Errorf("read sessions: %w", err)
		}
		for _, p := range pairs {
			s, ok := seen[p[0]]
			switch {
			case p[1] == "human":
				err = errors.Join(err, enc.Encode(map[string]any{"benign": "human", "principals": []string{kind + p[0]}}))
			case ok:
				err = errors.Join(err, episode(p[1]+"-"+p[0], *typ, p[0], p[1], s))
			}
		}
	}
	return errors.Join(err, w.Flush())
}

// span is what one client did in the log.
type span struct {
	first, last time.Time
	requests    int
}

func busiest(seen map[string]span) string {
	best := ""
	for c, s := range seen {
		if b := seen[best].requests; s.requests > b || s.requests == b && c < best {
			best = c
		}
	}
	return best
}

// readSpans reads the log at path; clientOf returns "" for a line without one.
func readSpans(path string, clientOf func(line string) string) (map[string]span, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	seen := make(map[string]span)
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		c := clientOf(line)
		_, rest, _ := strings.Cut(line, "[")
		stamp, _, _ := strings.Cut(rest, "]")
		t, err := time.Parse("02/Jan/2006:15:04:05 -0700", stamp)
		if c == "" || err != nil {
			continue
		}
		s, ok := seen[c]
		if !ok || t.Before(s.first) {
			s.first = t
		}
		if !ok || t.After(s.last) {
			s.last = t
		}
		s.requests++
		seen[c] = s
	}
	if len(seen) == 0 && sc.Err() == nil {
		return nil, errors.New("no line with a client and a time")
	}
	return seen, sc.Err()
}

func addressOf(line string) string {
	c, _, ok := strings.Cut(line, " ")
	if !ok {
		return ""
	}
	return c
}

// sessionOf is the word between the quoted referer and the quoted user agent.
func sessionOf(line string) string {
	i := strings.LastIndex(strings.TrimSuffix(line, `"`), ` "`)
	if i < 0 {
		return ""
	}
	line = line[:i]
	w := line[strings.LastIndexByte(line, ' ')+1:]
	if strings.Contains(w, `"`) || w == "-" {
		return ""
	}
	return w
}

// readTSV reads "id TAB label" lines and skips the header.
func readTSV(path string) ([][2]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var pairs [][2]string
	for i, line := range slices.Collect(strings.Lines(string(data))) {
		id, label, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "\t")
		if !ok || id == "" {
			return nil, fmt.Errorf("%s line %d: want \"id TAB label\"", path, i+1)
		}
		if i == 0 && id == "session_id" {
			continue
		}
		label, _, _ = strings.Cut(label, "\t")
		pairs = append(pairs, [2]string{id, label})
	}
	return pairs, nil
}
