package pipeline

import (
	"slices"
	"strings"
)

// The tokens of SQL as an injected fragment has them: quotes are tokens of
// their own, because the fragment may begin inside a string.
type sqlToken uint8

const (
	sqlEnd     sqlToken = iota
	sqlWord             // a name or any other word
	sqlNumber           // 12, 0x1f, null, true
	sqlMark             // ' or "
	sqlLogic            // and, or, xor, not, &&, ||, having, where
	sqlCompare          // = < > <> != like, in, between, is
	sqlComment          // --, #, /*
	sqlOpen             // (
	sqlClose            // )
	sqlStop             // ;
	sqlUnion            // union
	sqlSelect           // select
	sqlFrom             // from
	sqlVerb             // insert, update, delete, drop, exec, ...
	sqlOrder            // order by, group by
	sqlMath             // + - * / , |
	sqlCall             // a word right before (
	sqlAt               // @name, @@name
)

// sqlTokens splits v; at most as many as fit.
func sqlTokens(v string, t *[maxPayloadTokens]sqlToken, from *[maxPayloadTokens]uint16) (n int) {
	add := func(k sqlToken, at int) {
		if n < len(t) {
			t[n], from[n] = k, uint16(at)
			n++
		}
	}
	for i := 0; i < len(v) && n < len(t); {
		b := v[i]
		switch {
		case b <= ' ' || b == 0xa0:
			i++
		case b == '\'' || b == '"':
			add(sqlMark, i)
			i++
		case b == '#':
			add(sqlComment, i)
			i++
		case b == '-' && i+1 < len(v) && v[i+1] == '-':
			add(sqlComment, i)
			i += 2
		case b == '/' && i+1 < len(v) && v[i+1] == '*':
			end := strings.Index(v[i+2:], "*/")
			if end < 0 || n > 0 && end > 0 && v[i+2] == '!' {
				add(sqlComment, i)
				i += 2
				continue
			}
			i += end + 4 // stands for a blank
		case b == '*' && i+1 < len(v) && v[i+1] == '/':
			i += 2
		case b == '(' || b == '{':
			add(sqlOpen, i)
			i++
		case b == ')' || b == '}':
			add(sqlClose, i)
			i++
		case b == ';':
			add(sqlStop, i)
			i++
		case b == '|' && i+1 < len(v) && v[i+1] == '|', b == '&' && i+1 < len(v) && v[i+1] == '&':
			add(sqlLogic, i)
			i += 2
		case b == '=' || b == '<' || b == '>' || b == '!' && i+1 < len(v) && v[i+1] == '=':
			add(sqlCompare, i)
			for i < len(v) && (v[i] == '=' || v[i] == '<' || v[i] == '>' || v[i] == '!') {
				i++
			}
		case b == '+' || b == '-' || b == '*' || b == '/' || b == ',' || b == '|' || b == '%' || b == '^' || b == '&' || b == '!' || b == '~':
			add(sqlMath, i)
			i++
		case b == '@':
			add(sqlAt, i)
			i++
			for i < len(v) && (isWordByte(v[i]) || v[i] == '@') {
				i++
			}
		case isDigit(b):
			add(sqlNumber, i)
			for i < len(v) && (isWordByte(v[i]) || v[i] == '.') {
				i++
			}
		case isWordByte(b):
			at := i
			for i < len(v) && (isWordByte(v[i]) || v[i] == '$' || v[i] == '.') {
				i++
			}
			add(sqlWordKind(v[at:i]), at)
		default:
			i++
		}
	}
	return n
}

func sqlWordKind(w string) sqlToken {
	switch w {
	case "and", "or", "xor", "not", "having", "where", "when", "if", "div", "mod":
		return sqlLogic
	case "like", "in", "between", "is", "rlike", "regexp", "exists":
		return sqlCompare
	case "union", "intersect", "except":
		return sqlUnion
	case "select":
		return sqlSelect
	case "from", "dual":
		return sqlFrom
	case "insert", "update", "delete", "drop", "exec", "execute", "create", "alter", "truncate", "declare", "shutdown", "grant", "merge", "begin", "waitfor", "handler", "call", "load", "backup", "print", "replace", "set":
		return sqlVerb
	case "order", "group", "limit", "procedure", "into":
		return sqlOrder
	case "null", "true", "false":
		return sqlNumber
	}
	return sqlWord
}

// sqlShapes finds fragments of SQL.
func sqlShapes(v string, c charClass) (p Payloads) {
	var t [maxPayloadTokens]sqlToken
	var from [maxPayloadTokens]uint16
	n := sqlTokens(v, &t, &from)
	ts := t[:n]
	at := func(i int) sqlToken {
		if i < 0 || i >= n {
			return sqlEnd
		}
		return t[i]
	}
	marks := 0
	for _, k := range ts {
		if k == sqlMark {
			marks++
		}
	}
	broke := marks > 0 // a quote, a closing parenthesis or a number to begin with: we may be inside a statement
	numeric := n > 0 && (at(0) == sqlNumber || at(0) == sqlMath && at(1) == sqlNumber || at(0) == sqlClose || at(0) == sqlLogic)
	inside := broke || numeric
	value := func(i int) (next int, k sqlToken) { // skips what stands around a value
		for at(i) == sqlMark || at(i) == sqlOpen || at(i) == sqlMath && at(i+1) != sqlEnd || at(i) == sqlLogic {
			if at(i) == sqlMark && (at(i+1) == sqlMark || at(i+1) == sqlCompare) {
				return i + 1, sqlMark // ''
			}
			i++
		}
		k = at(i)
		if k != sqlWord && k != sqlNumber && k != sqlAt && k != sqlSelect {
			return i, sqlEnd
		}
		i++
		for at(i) == sqlMark || at(i) == sqlClose {
			i++
		}
		return i, k
	}
	for i := range ts {
		switch ts[i] {
		case sqlLogic:
			j, left := value(i + 1)
			if left == sqlEnd {
				continue
			}
			if at(j) == sqlMath && left == sqlNumber { // 5*5=25
				if k, more := value(j + 1); more == sqlNumber {
					j = k
				}
			}
			if at(j) == sqlCompare {
				_, right := value(j + 1)
				quoted := i+1 < n && (ts[i+1] == sqlMark || at(j+1) == sqlMark)
				same := left == sqlWord && right == sqlWord && sameWord(v, &from, &t, i+1, j+1, n)
				if (right == sqlNumber && left == sqlNumber || right != sqlEnd && (quoted && broke || same) || left == sqlNumber && (right == sqlSelect || inside && right != sqlEnd) || inside && at(j+1) == sqlOpen) && (inside || i <= 3 || left == sqlNumber) {
					p |= PayloadTautology
				}
			}
			if (at(j) == sqlComment || at(j) == sqlEnd && broke && left == sqlNumber && i > 0 && ts[i-1] == sqlMark) && (left == sqlNumber || broke) {
				p |= PayloadTautology
			}
		case sqlUnion:
			for j := i + 1; j < min(n, i+5); j++ {
				if ts[j] == sqlSelect {
					p |= PayloadUnion
				}
			}
		case sqlSelect:
			for j := i + 1; j < n; j++ {
				if ts[j] == sqlFrom && (j == i+2 && (ts[i+1] == sqlMath || ts[i+1] == sqlNumber) || inside || slices.ContainsFunc(ts[i+1:j], func(k sqlToken) bool { return k == sqlOpen || k == sqlMath || k == sqlMark || k == sqlAt })) {
					p |= PayloadSQL
				}
			}
			if i == 0 && at(1) == sqlWord && at(2) == sqlOpen {
				p |= PayloadSQL // select sleep (5)
			}
			if next := at(i + 1); i > 0 && ts[i-1] == sqlOpen || (inside || i == 0) && (next == sqlMath || next == sqlNumber || next == sqlAt || next == sqlMark) {
				p |= PayloadSQL
			}
			if i > 0 && inside && at(i+1) != sqlEnd {
				p |= PayloadSQL
			}
		case sqlStop:
			if k := at(i + 1); k == sqlSelect || k == sqlVerb && at(i+2) != sqlEnd && at(i+2) != sqlOpen {
				p |= PayloadSQL
			}
			if broke && i > 0 && ts[i-1] == sqlMark && (i == 1 || marks%2 == 1) && at(i+1) == sqlEnd {
				p |= PayloadComment
			}
		case sqlVerb:
			if at(i+1) == sqlWord && at(i+2) != sqlEnd || at(i+1) == sqlFrom && at(i+2) == sqlWord || at(i+1) == sqlOrder {
				word, _, _ := strings.Cut(v[from[i]:], " ")
				second := ""
				if i+1 < n {
					second, _, _ = strings.Cut(v[from[i+1]:], " ")
				}
				switch {
				case word == "insert" && second == "into", word == "delete" && second == "from", word == "drop" && (second == "table" || second == "database"), word == "waitfor", word == "exec" && inside, word == "declare" && inside,
					word == "update" && strings.Contains(v, " set ") && strings.Contains(v, "="), word == "create" && (second == "table" || second == "user"), word == "alter" && second == "table", word == "merge" && second == "into", word == "truncate" && second == "table", word == "load" && second == "data":
					p |= PayloadSQL
				}
			}
		case sqlOrder:
			if inside && i > 0 && (strings.HasPrefix(v[from[i]:], "order by") || strings.HasPrefix(v[from[i]:], "group by") || strings.HasPrefix(v[from[i]:], "limit ")) {
				p |= PayloadUnion
			}
			if inside && (strings.HasPrefix(v[from[i]:], "into outfile") || strings.HasPrefix(v[from[i]:], "procedure an")) {
				p |= PayloadSQLCall
			}
		case sqlComment:
			// What is cut off, not what is said aside: "C#" and "a -- b" are text.
			last := i == n-1 || at(i+1) == sqlEnd
			if i > 0 && (ts[i-1] == sqlMark && (marks%2 == 1 || last) || last && (ts[i-1] == sqlClose || ts[i-1] == sqlStop) || last && broke && v[from[i]] == '-') {
				p |= PayloadComment
			}
		case sqlMark:
			if i > 0 && i+1 < n && marks%2 == 1 && (ts[i+1] == sqlLogic || ts[i+1] == sqlClose && i+2 < n || ts[i+1] == sqlMath && at(i+2) == sqlMark) {
				p |= PayloadQuote
			}
		case sqlAt:
			if i+1 == n && i > 0 && ts[i-1] == sqlVerb || strings.HasPrefix(v[from[i]:], "@@") {
				p |= PayloadSQLCall
			}
		}
	}
	if c&charBracket != 0 || inside || p != 0 || strings.IndexByte(v, '_') >= 0 {
		if (inside || p != 0) && containsAny(v, sqlCalls) || strongCall(v) {
			p |= PayloadSQLCall
		}
	}
	if marks > 0 && p&(PayloadTautology|PayloadUnion|PayloadSQL|PayloadComment) == 0 && oddQuote(v, marks) {
		p |= PayloadQuote
	}
	if strings.Contains(v, "\\x27") || strings.Contains(v, "\\x22") || strings.Contains(v, "\\x3d") || strings.Contains(v, "\\u0027") || strings.Contains(v, "\\x3c") || strings.Contains(v, "\\u003c") || strings.Contains(v, "&#") && strings.Contains(v, ";") {
		p |= PayloadDouble
	}
	return p
}

// strongCall are calls that nobody writes without a statement in mind.
func strongCall(v string) bool { return containsAny(v, strongCalls) }

var strongCalls = []string{
	"sleep(", "benchmark(", "pg_sleep", "waitfor delay", "waitfor time", "information_schema", "extractvalue(", "updatexml(", "load_file(", "xp_cmdshell", "sysobjects", "pg_catalog", "sqlite_master", "@@version", "randomblob(", "utl_http", "utl_inaddr", "dbms_pipe", "dbms_lock",
	"make_set(", "elt(", "iif(", "group_concat(", "xmltype(", "sysdate(", "unhex(", "json_build_object(", "jsonb_pretty(", "query_to_xml", "generate_series(", "regexp_substring(", "current_database(", "nvarchar(4000)", "char(0x", "concat(0x", "union all select", "union select",
}

// sameWord reports whether the words at or after tokens i and j are the same.
func sameWord(v string, from *[maxPayloadTokens]uint16, t *[maxPayloadTokens]sqlToken, i, j, n int) bool {
	word := func(i int) string {
		for i < n && t[i] != sqlWord {
			i++
		}
		if i >= n {
			return ""
		}
		s := v[from[i]:]
		end := 0
		for end < len(s) && isWordByte(s[end]) {
			end++
		}
		return s[:end]
	}
	a, b := word(i), word(j)
	return a != "" && a == b
}

// oddQuote reports a quote that is no apostrophe: one that does not stand after
// a letter and before a letter, a blank or the end.
func oddQuote(v string, marks int) bool {
	if marks%2 == 0 && !strings.ContainsAny(v, "=();|") && marks == 2 {
		return false // "quoted words"
	}
	for i := range len(v) {
		if v[i] != '\'' && v[i] != '"' {
			continue
		}
		letterBefore := i > 0 && (isLower(v[i-1]) || v[i-1] >= 0x80)
		digitBefore := i > 0 && isDigit(v[i-1])
		wordAfter := i+1 < len(v) && (isLower(v[i+1]) || v[i+1] >= 0x80)
		end := i+1 == len(v) || v[i+1] == ' ' || v[i+1] == ',' || v[i+1] == '.'
		if letterBefore && (wordAfter || end) || digitBefore && end && i > 0 {
			continue
		}
		if wordAfter && (i == 0 || v[i-1] == ' ') && marks == 1 {
			continue // 'tis, d' 's
		}
		return true
	}
	return false
}

// commandShapes finds shell commands behind what separates them.
func commandShapes(v string, c charClass, path bool) (p Payloads) {
	if strings.Contains(v, "() {") || strings.Contains(v, "(){") {
		return PayloadCommand
	}
	for i := range len(v) {
		b := v[i]
		j := i + 1
		switch {
		case b == ';' || b == '|' || b == '&' || b == '\n' || b == '`':
		case b == '$' && j < len(v) && v[j] == '(', (b == '<' || b == '>') && j < len(v) && v[j] == '(':
			j++
		case b == '!' && !path && i == 0:
		default:
			continue
		}
		for j < len(v) && (v[j] == ' ' || v[j] == '\t' || v[j] == '&' || v[j] == '|' || v[j] == '(' || v[j] == '{' || v[j] == '"' || v[j] == '\'' || v[j] == '\\' || v[j] == '@' || v[j] == ';' || v[j] == '+') {
			j++
		}
		word, n := v[j:], 0
		for n < len(word) && (isWordByte(word[n]) || word[n] == '/' || word[n] == '.' || word[n] == '-' || word[n] == '\\' || word[n] == '\'' || word[n] == '"' || word[n] == '?' || word[n] == '*' || word[n] == '[' || word[n] == ']' || word[n] == '$' || word[n] == '@') {
			n++
		}
		word = word[:n]
		if n == 0 {
			continue
		}
		if b == '$' && word[0] == '(' || b == '`' && strings.IndexByte(v[i+1:], '`') > 0 && isCommand(word) || b == '$' && j > i+1 {
			return p | PayloadCommand
		}
		binary := strings.HasPrefix(word, "/bin/") || strings.HasPrefix(word, "/usr/bin") || strings.HasPrefix(word, "usr/bin") || strings.HasPrefix(word, "/sbin") || strings.HasPrefix(word, "/???/")
		end := v[min(len(v), j+n):]
		argument := end == "" || strings.HasPrefix(end, " ") || strings.IndexByte(";|&`)<>$\n\"'({,%", end[0]) >= 0
		matrix := path && b == ';' && c&charSpacing == 0 && end == "" && n > 4 // a path's parameter
		if binary || isCommand(word) && argument && !matrix {
			return p | PayloadCommand
		}
	}
	if path {
		return p
	}
	if i := strings.IndexAny(v, ";|&"); i > 0 && strings.Contains(v[:i], "/bin/") || strings.HasPrefix(v, "/bin/") || strings.HasPrefix(v, "/usr/bin/") || strings.Contains(v, "cmd.exe") || strings.Contains(v, "/bin/sh") || strings.Contains(v, "/bin/bash") || strings.Contains(v, "$ifs") || strings.Contains(v, "${ifs") || strings.Contains(v, "/dev/tcp/") || strings.Contains(v, ".exe -") || strings.Contains(v, "powershell") || strings.Contains(v, "%comspec%") {
		return p | PayloadCommand
	}
	word, rest, ok := strings.Cut(v, " ")
	if ok && len(word) >= 3 && (strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "http")) && isCommand(word) && len(rest) > 1 && rest[1] != ' ' {
		p |= PayloadCommand
	}
	return p
}

// isCommand reports a word that shells run.
func isCommand(w string) bool {
	var buf [32]byte
	n := 0
	for i := range len(w) {
		if w[i] == '\'' || w[i] == '"' || w[i] == '\\' {
			continue // c'a't
		}
		if n == len(buf) {
			return false
		}
		buf[n] = w[i]
		n++
	}
	for n > 0 && buf[n-1] == '.' {
		n--
	}
	name := string(buf[:n])
	if i := strings.LastIndexByte(name, '/'); i >= 0 && (strings.Contains(name, "bin/") || i == 0) {
		name = name[i+1:]
	}
	name = strings.TrimSuffix(name, ".exe")
	return slices.Contains(commandWords, name)
}
