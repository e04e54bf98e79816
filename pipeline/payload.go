package pipeline

import (
	"strings"
	"unsafe"
)

// What an attack looks like in a request's text is decided at collect, before
// values are reduced: a set of shapes and the slot they came in leave it, the
// text does not. This is no WAF: a shape is a fact for inject.probe to weigh, so
// names like O'Brien and questions about SQL may show one.

// The shapes. Those of PayloadWeak occur in ordinary text; the others do so
// where people search for code.
const (
	PayloadQuote     Payloads = 1 << iota // a quote that closes nothing, with more than a name around it
	PayloadMeta                           // several characters that mean something to an interpreter, no words
	PayloadMarkup                         // an HTML tag
	PayloadDouble                         // what matters is escaped twice, or as \x27 or %u0027
	PayloadComment                        // an SQL comment where a statement would be cut off
	PayloadTautology                      // or 1=1, ' and 'a'='a
	PayloadUnion                          // union select, order by N--
	PayloadSQL                            // other statements and clauses of SQL, from select ... from to a second statement
	PayloadSQLCall                        // functions and tables of database servers: sleep(5), information_schema
	PayloadXSS                            // script in HTML: <script, onerror=, javascript:
	PayloadTraversal                      // ../ out of a directory
	PayloadFile                           // files of the system or the application: /etc/passwd, web.xml, file://
	PayloadCommand                        // shell commands: ;id, $(id), `id`
	PayloadTemplate                       // template and expression languages: {{7*7}}, ${7*7}
	PayloadLookup                         // ${jndi:...}
	PayloadXXE                            // XML entities and document types
	PayloadSSRF                           // an internal address or an odd scheme as value
	PayloadRemote                         // a file of another host where a file name belongs
	PayloadNoSQL                          // [$ne]=, {"$gt":""}
	PayloadCRLF                           // a line break and a header
	PayloadLDAP                           // *)(uid=*
	PayloadCode                           // code of PHP, Java, JavaScript, Python: phpinfo(, Runtime, __proto__
	PayloadOverlong                       // %c0%ae and the like: no encoder writes it
	PayloadNull                           // a zero byte
	PayloadAgent                          // the agent names a scanner

	payloadEnd
)

// PayloadWeak are the shapes that ordinary text has.
const PayloadWeak = PayloadQuote | PayloadMeta | PayloadMarkup | PayloadDouble

// PayloadAll are all shapes.
const PayloadAll = payloadEnd - 1

var payloadNames = [...]string{
	"quote", "metacharacters", "markup", "double encoding", "SQL comment", "SQL tautology", "SQL union", "SQL statement", "SQL function",
	"script", "directory traversal", "system file", "shell command", "template", "JNDI lookup", "XML entity", "internal address", "remote file",
	"NoSQL operator", "header injection", "LDAP filter", "code", "overlong encoding", "null byte", "scanner agent",
}

// Names appends the words for the shapes in p, in the order of their constants.
func (p Payloads) Names(dst []string) []string {
	for i, name := range payloadNames {
		if p>>i&1 == 1 {
			dst = append(dst, name)
		}
	}
	return dst
}

// Slots that are not parameters.
const (
	payloadPathSlot    = "\x00path"
	payloadRefererSlot = "\x00referer"
)

// The slots that are no parameters of an endpoint, for Request.Slot.
var (
	PathSlot    = Hash64(payloadPathSlot)
	RefererSlot = Hash64(payloadRefererSlot)
)

// AgentSlot is the slot of what only the agent says.
const AgentSlot = 1

// Bounds of one request's look: what lies beyond is not looked at.
const (
	maxPayloadValue  = 1024 // bytes of one value, decoded
	maxPayloadText   = 8192 // bytes of path and query
	maxPayloadTokens = 96
)

// charClass says what a byte may be part of.
type charClass uint16

const (
	charQuoteMark charClass = 1 << iota // ' " `
	charAngle                           // < >
	charBracket                         // ( ) { } [ ]
	charShell                           // ; | & $ \ ! ^ # *
	charSlashDot                        // / . \
	charEqual                           // = :
	charEncoded                         // %
	charSpacing                         // blanks, also + in queries, and control characters
	charJoin                            // & between parameters, a shell's background elsewhere
)

var charClassOf = func() (t [256]charClass) {
	set := func(s string, c charClass) {
		for i := range len(s) {
			t[s[i]] |= c
		}
	}
	set("'\"`", charQuoteMark)
	set("<>", charAngle)
	set("(){}[]", charBracket)
	set(";|$\\!^#*@,", charShell)
	set("&", charJoin)
	set("/\\.", charSlashDot)
	set("=:~", charEqual)
	set("%", charEncoded)
	set(" +", charSpacing)
	for c := range 0x20 {
		t[c] |= charSpacing
	}
	return t
}()

func classesOf(s string) (c charClass) {
	for len(s) >= 4 {
		c |= charClassOf[s[0]] | charClassOf[s[1]] | charClassOf[s[2]] | charClassOf[s[3]]
		s = s[4:]
	}
	for i := range len(s) {
		c |= charClassOf[s[i]]
	}
	return c
}

// ScanPayloads looks for attack shapes in a path, in a query (names and values)
// and in a referer, all as received, and returns what it saw and a hash of the
// slot of the strongest. It allocates nothing and keeps nothing.
func ScanPayloads(path, query, referer string) (p Payloads, slot uint64) {
	p, slot, _ = scanPayloads(path, query, referer)
	return p, slot
}

// scanPayloads is ScanPayloads; plain says that path and referer are.
func scanPayloads(path, query, referer string) (p Payloads, slot uint64, plain bool) {
	var s payloadScan
	plain = true
	if !plainPath(path) {
		plain = false
		if c := classesOf(path); c&^(charSlashDot|charEqual) != 0 || c&charSlashDot != 0 && oddPath(path) {
			s.look(path[:min(len(path), maxPayloadText)], payloadPathSlot, c, true)
		}
	}
	if query != "" {
		// Letters, digits and pairs of them are no payload.
		if classesOf(query)&^(charEqual|charJoin) != 0 || strings.IndexByte(query, ':') >= 0 {
			s.query(query[:min(len(query), maxPayloadText)])
		}
	}
	if !plainReferer(referer) {
		plain = false
		if c := classesOf(referer); c&(charQuoteMark|charAngle|charBracket|charEncoded) != 0 || c&charShell != 0 && strings.IndexByte(referer, '$') >= 0 {
			before, at := s.found, s.slot
			s.look(referer[:min(len(referer), maxPayloadText)], payloadRefererSlot, c, false)
			// Search engines and sites put all sorts of text into a referer.
			s.found = before | s.found&(PayloadSQLCall|PayloadUnion|PayloadXSS|PayloadLookup|PayloadFile|PayloadCode)
			if s.found == before {
				s.slot = at
			}
		}
	}
	return s.found, s.slot, plain
}

// payloadScan is the state of one request's scan.
type payloadScan struct {
	found Payloads
	slot  uint64
	rank  int // of the strongest shape so far
}

// oddPath reports a path with a dot or a hyphen that makes it odd.
func oddPath(path string) bool {
	for i := range len(path) {
		if c := path[i]; (c == '.' || c == '-') && oddAt(path, i) {
			return true
		}
	}
	return false
}

func (s *payloadScan) query(q string) {
	for n := 0; q != "" && n < maxParameters; n++ {
		var pair string
		pair, q, _ = strings.Cut(q, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			name, value = "", pair
		}
		if c := classesOf(value); c != 0 {
			s.look(value, name, c, false)
		}
		if c := classesOf(name); ok && c&^charSlashDot != 0 {
			s.name(name, c)
		}
	}
}

// name looks at a parameter's name: operators hide there.
func (s *payloadScan) name(name string, c charClass) {
	if c&(charShell|charEncoded) != 0 {
		low := name
		if i := strings.IndexByte(low, '$'); i >= 0 && i+1 < len(low) && isLower(low[i+1]) && (i > 0 && (low[i-1] == '[' || low[i-1] == '{') || strings.HasPrefix(low[i:], "$where")) {
			s.add(PayloadNoSQL, name[:i])
		} else if i := strings.Index(low, "%24"); i >= 3 && (strings.HasPrefix(low[i-3:], "%5b") || strings.HasPrefix(low[i-3:], "%5B") || low[i-1] == '[') {
			s.add(PayloadNoSQL, name[:i])
		}
	}
	if strings.Contains(name, "__proto__") || strings.Contains(name, "class.module") || strings.Contains(name, "constructor[") {
		s.add(PayloadCode, "")
	}
	if c&(charQuoteMark|charAngle|charBracket|charEncoded) != 0 && strings.IndexByte(name, '[') < 0 && !strings.Contains(name, "%5") {
		s.look(name, "", c, false)
	}
}

func (s *payloadScan) add(p Payloads, slot string) {
	if p == 0 {
		return
	}
	s.found |= p
	rank := 1
	if p&^PayloadWeak != 0 {
		rank = 2
	}
	if rank > s.rank {
		s.rank, s.slot = rank, Hash64(slot)
	}
}

// look decodes a value and asks every matcher that its characters allow.
func (s *payloadScan) look(value, slot string, c charClass, path bool) {
	var buf [2][maxPayloadValue]byte
	text := value
	var p Payloads
	if c&charEncoded != 0 || c&charSpacing != 0 {
		n, odd := decodeOnce(buf[0][:], value, !path)
		p |= odd
		text = unsafe.String(unsafe.SliceData(buf[0][:]), n)
		if strings.IndexByte(text, '%') >= 0 {
			m, odd := decodeOnce(buf[1][:], text, false)
			if m < n {
				p |= odd
				again := unsafe.String(unsafe.SliceData(buf[1][:]), m)
				if classesOf(again)&^classesOf(text)&(charQuoteMark|charAngle|charBracket|charShell|charSpacing) != 0 || strings.Contains(again, "..") && !strings.Contains(text, "../") {
					p |= PayloadDouble
				}
				text = again
			}
		}
	}
	if len(text) > maxPayloadValue {
		text = text[:maxPayloadValue]
	}
	if hasUpper(text) {
		low := buf[1][:0]
		if unsafe.StringData(text) == unsafe.SliceData(buf[1][:]) {
			low = buf[0][:0]
		}
		for i := range len(text) {
			b := text[i]
			if b >= 'A' && b <= 'Z' {
				b |= 0x20
			}
			low = append(low, b)
		}
		text = unsafe.String(unsafe.SliceData(low), len(low))
	}
	s.add(p|shapesOf(text, path), slot)
}

// decodeOnce percent-decodes s into dst, as much as fits; plus turns + into a
// blank. It reports what no encoder writes.
func decodeOnce(dst []byte, s string, plus bool) (n int, odd Payloads) {
	for i := 0; i < len(s) && n < len(dst); i++ {
		b := s[i]
		switch {
		case b == '+' && plus:
			b = ' '
		case b == '%' && i+2 < len(s):
			if v, ok := unhex2(s, i+1); ok {
				if (v == 0xc0 || v == 0xc1) && i+5 < len(s) && s[i+3] == '%' {
					if w, ok := unhex2(s, i+4); ok {
						odd |= PayloadOverlong
						b = (v&3)<<6 | w&0x3f
						i += 5
						break
					}
				}
				if v == 0 {
					odd |= PayloadNull
				}
				b = v
				i += 2
			} else if (s[i+1] == 'u' || s[i+1] == 'U') && i+5 < len(s) {
				hi, ok1 := unhex2(s, i+2)
				lo, ok2 := unhex2(s, i+4)
				if ok1 && ok2 {
					if hi == 0 && lo < 0x80 && charClassOf[lo] != 0 || hi == 0xff {
						odd |= PayloadDouble
					}
					if hi == 0xff {
						lo += 0x20 // fullwidth forms
					}
					if hi == 0 || hi == 0xff {
						b = lo
						i += 5
					}
				}
			}
		}
		dst[n] = b
		n++
	}
	return n, odd
}

func isLower(b byte) bool    { return b >= 'a' && b <= 'z' }
func isDigit(b byte) bool    { return b >= '0' && b <= '9' }
func isWordByte(b byte) bool { return isLower(b) || isDigit(b) || b == '_' || b >= 0x80 }

// shapesOf asks the matchers about a decoded value in lower case.
func shapesOf(v string, path bool) (p Payloads) {
	c := classesOf(v)
	if c&charJoin != 0 {
		c |= charShell
	}
	if c&^(charSpacing|charEncoded|charSlashDot) == 0 {
		if c&(charSpacing|charSlashDot) == 0 {
			return 0
		}
		// Words, most of them of people. A line break is not theirs.
		if c&charSlashDot == 0 && !containsAny(v, wordyShapes) {
			return 0
		}
	}
	if c&charSlashDot != 0 {
		p |= fileShapes(v, path)
		if !path {
			p |= addressShapes(v)
		}
	}
	if c&(charQuoteMark|charAngle|charEqual) != 0 {
		p |= markupShapes(v, c)
	}
	if c&(charQuoteMark|charBracket|charShell|charEqual|charSpacing) != 0 {
		p |= sqlShapes(v, c)
	}
	if c&(charShell|charQuoteMark|charSpacing|charBracket) != 0 || strings.Contains(v, "bin/") {
		p |= commandShapes(v, c, path)
	}
	if c&(charBracket|charAngle) != 0 {
		p |= templateShapes(v)
	}
	if c&(charBracket|charAngle|charSlashDot|charEqual) != 0 {
		p |= codeShapes(v, c, path)
	}
	if c&charBracket != 0 && c&(charShell|charEqual) != 0 {
		p |= filterShapes(v)
	}
	if c&charSpacing != 0 && strings.ContainsAny(v, "\r\n") {
		p |= headerShapes(v, path)
	}
	if p == 0 && metaOnly(v, c) {
		p |= PayloadMeta
	}
	return p
}

// wordyShapes are in every payload that needs no character but letters, digits
// and blanks.
var wordyShapes = []string{"select", "union", " by ", "into ", "delete ", "drop ", "update ", "waitfor", "\n", "\r", " -", "limit ", "exec", "and ", "or "}

// metaOnly reports text of interpreters' characters, such as <>"'%;)(&+.
func metaOnly(v string, c charClass) bool {
	if c&(charQuoteMark|charAngle|charBracket|charShell) == 0 || len(v) > 64 {
		return false
	}
	if v[0] == '{' && v[len(v)-1] == '}' || v[0] == '[' && v[len(v)-1] == ']' {
		return false // JSON
	}
	n, words := 0, 0
	for i := range len(v) {
		switch {
		case isWordByte(v[i]):
			words++
		case charClassOf[v[i]]&(charQuoteMark|charAngle|charBracket|charShell) != 0:
			n++
		}
	}
	return n >= 2 && words <= n || n == 1 && words == 0 && c&(charQuoteMark|charShell) != 0 && v != "*" && v != "," && v != "&"
}

func containsAny(v string, words []string) bool {
	for _, w := range words {
		if strings.Contains(v, w) {
			return true
		}
	}
	return false
}

// The words of the matchers, lower case.
var (
	systemFiles = []string{
		"/etc/", "etc/passwd", "etc\\passwd", "etc/shadow", "/proc/self", "/proc/version", "/proc/cpuinfo", "boot.ini", "win.ini", "system.ini", "windows/system32", "windows\\system32", "c:\\", "c:/", "web-inf", "meta-inf",
		"/var/log/", "/var/www", "/.ssh/", ".htaccess", ".htpasswd", "id_rsa", "/.git/", "/.svn/", "/.aws/", "/.env", ".bash_history", "wp-config", "web.config", "/.docker", "/.kube", "global.asa", "/root/", ".mysql_history", "/sys/class", "php.ini", "httpd.conf", "nginx.conf", "/.npmrc", "access_log", "access.log",
	}
	fileSchemes   = []string{"file://", "file:/", "php://", "phar://", "zip://", "expect://", "data://", "glob://", "compress.zlib://", "ogg://", "rar://", "zlib://"}
	oddSchemes    = []string{"gopher://", "dict://", "ldap://", "ldaps://", "tftp://", "sftp://", "jar:", "netdoc:", "rmi://", "ssh2.", "smb://", "view-source:", "local:", "nfs://", "iiop://", "jndi:"}
	internalHosts = []string{
		"169.254.", "metadata.google", "100.100.100.200", "instance-data", "//localhost", "//127.", "//0.0.0.0", "//0/", "//[::", "//0x", "//2130706433", "//10.", "//192.168.", "//017", "//02", "//0251", "@127.", "@localhost", "burpcollaborator", "oastify.", "interact.sh", ".oast.", "nip.io", "sslip.io", "xip.io",
		"//metadata", "/latest/meta-data", "localtest.me", "//169.", "//2852039166", "//0xa9", "//425.510", "//[0:0:",
	}
	scriptWords = []string{
		"<script", "</script", "javascript:", "vbscript:", "livescript:", "document.cookie", "document.write", "document.domain", "document.location", "window.location", "alert(", "alert`", "setinterval(", "atob(", "btoa(", "queryselector", "<importimpl", "url(javascript", "prompt(", "confirm(", "<iframe", "<svg", "<object", "<embed", "<applet", "<base ", "<meta ", "<link ", "srcdoc=", "expression(",
		"string.fromcharcode", "eval(", "-moz-binding", "data:text/html", "<style", "<img ", "<img/", "<body", "<form", "<isindex", "<xss", "<video", "<audio", "<details", "<marquee", "<math", "<layer", "<bgsound", "<frame", "xlink:href", "formaction", "@import", "innerhtml", "<!--#", "<![cdata[", "<x ", "text/vbscript", "fromcharcode", "settimeout(", "import(", "constructor(",
		"seeksegmenttime", "<animate", "<blink", "<bgsound", "<?import", "<ilayer", "dynsrc=", "lowsrc=", "background=", "<textarea", "<keygen", "<select ", "<input", "<button", "window[", "self[", "top[", "parent[", "this[", "location=", "location.", "xss:", "<a ", "<div", "<br ", "<b ", "<table", "<td ", "<title", "<template", "<noscript",
	}
	sqlCalls = []string{
		"sleep(", "benchmark(", "pg_sleep", "waitfor delay", "waitfor time", "extractvalue(", "updatexml(", "load_file(", "xp_", "sp_executesql", "sp_password", "dbms_", "utl_http", "utl_inaddr", "ctxsys.", "information_schema", "sysobjects", "syscolumns", "sysusers", "sysdatabases", "sys.tables", "sys.objects", "pg_catalog", "pg_user", "pg_shadow", "sqlite_master", "mysql.user", "master..", "msysobjects", "all_tables", "user_tables", "all_users", "v$version", "rdb$",
		"generate_series(", "randomblob(", "group_concat(", "make_set(", "elt(", "concat(", "concat_ws(", "char(", "chr(", "row(", "ascii(", "substring(", "substr(", "mid(", "version()", "@@version", "@@datadir", "database()", "current_user", "user()", "session_user", "system_user", "procedure analyse", "into outfile", "into dumpfile", "convert(int", "cast(", "hex(", "unhex(", "name_const(", "floor(rand", "exp(~",
		"db_name(", "is_srvrolemember", "openrowset", "crypt_key(", "regexp_substring(", "receive_message", "domain.domains", "json_keys(", "polygon(", "multipoint(", "geometrycollection(", "linestring(", "iif(", "nullif(", "coalesce(", "xmltype(", "dbms_pipe", "sys_context(", "_schema", "@@", "ifnull(", "isnull(", "if(", "case when", "rlike", "regexp ", "sounds like", "to_char(", "to_timestamp(", "schema(", "last_insert_id(", "len(", "length(", "nvl(", "decode(", "instr(", "lpad(", "position(", "bin(", "crc32(", "md5(", "sha1(", "rand(", "count(", "drop_function", "create function", "overlaps", "json_extract", "db.collection",
	}
	commandWords = []string{
		"id", "ls", "cat", "whoami", "uname", "ping", "wget", "curl", "nc", "ncat", "bash", "sh", "dir", "type", "ifconfig", "ipconfig", "netstat", "ps", "echo", "sleep", "rm", "cp", "mv", "chmod", "chown", "nslookup", "dig", "python", "perl", "ruby", "php", "cmd", "powershell", "net", "pwd", "printenv", "env", "tftp", "ftp", "telnet", "true", "false", "reboot", "shutdown", "head", "tail", "more", "less", "find", "grep", "set", "kill", "who", "w", "ssh", "scp", "touch", "mkdir", "tac", "sed", "awk", "base64", "xxd", "lua", "node", "java", "gcc", "make", "mail", "crontab", "systeminfo", "tasklist", "hostname", "cmd.exe", "ping.exe", "time", "eval", "exec", "export", "source", "busybox", "nohup", "sudo", "su", "iwr", "iwmi", "irm", "iex", "alias", "flock", "rmt", "nsenter", "c89", "c99", "cpulimit", "base32", "bridge", "certutil", "wmic", "reg", "start", "tar", "zip", "gzip", "vi", "vim", "nmap", "arp", "route", "mount", "df", "du", "last", "uptime", "date", "timeout", "xargs", "tee", "sort", "uniq", "cut", "tr", "wc", "diff", "ln", "dd", "od", "nl", "hexdump", "strings", "file", "stat", "test", "printf", "read", "alias", "command", "which", "whereis", "locate", "lsof", "socat", "openssl", "rsync", "git", "svn", "npm", "pip", "gem", "go", "docker", "kubectl", "aws", "apt", "apt-get", "yum", "dpkg", "rpm", "systemctl", "service", "useradd", "passwd", "adduser", "userdel", "finger", "getent", "groups", "dash", "zsh", "ksh", "csh", "tcsh", "fish", "pwsh", "mshta", "rundll32", "cscript", "wscript", "bitsadmin", "msiexec", "regsvr32", "schtasks", "taskkill", "attrib", "copy", "del", "move", "ren", "fc", "findstr", "nbtstat", "tracert", "traceroute", "whois", "host", "ip", "iptables", "ss", "jq", "rev", "paste", "fold", "expand", "comm", "join", "split", "csplit", "shuf", "seq", "yes", "nice", "watch", "script", "screen", "tmux", "strace", "ltrace", "gdb", "ld", "as", "cc", "clang", "g++",
	}
	codeWords = []string{
		"<?php", "<?=", "<? ", "phpinfo", "system(", "passthru(", "shell_exec", "exec(", "popen(", "proc_open", "assert(", "base64_decode", "file_get_contents", "fopen(", "fsockopen", "preg_replace", "create_function", "call_user_func", "allow_url_include", "auto_prepend_file", "java.lang", "java.io", "java.util", "javax.", "org.apache", "com.sun", "getruntime", "processbuilder", "classloader", "ognl", "xwork", "#_memberaccess", "@java", "__import__", "os.system", "os.popen", "subprocess", "__class__", "__globals__", "__builtins__", "__subclasses__", "__mro__", "__proto__", "constructor.prototype", "process.env", "child_process", "require(", "fs.read", "process.mainmodule", "global.process",
		"move_uploaded_file", "$_get", "$_post", "$_request", "$_server", "$_cookie", "$_files", "$globals", "_get[", "_post[", "_session[", "http_raw_post", "unserialize(", "o:1:\"", "o:4:\"", "o:8:\"", "a:1:{", "ro0ab", "aced0005", "getclass(", "forname(", "newinstance(", "scriptengine", "{%import", "import os", "file_put_contents", "include(", "require_once", "include_once", "chr(", "str_rot13", "gzinflate", "var_dump", "print_r(", "echo(", "die(", "ini_set", "putenv(", "mb_ereg", "array_map", "opendir(", "scandir(", "readfile(", "symlink(", "curl_exec", "disable_functions", "usort(", "extract(", "parse_str(", "runtime.exec", "invokefunction", "think\\app", "..class", "reflect.", "instance_eval", "%x{", "io.popen", "new function", "settimeout", "module.exports", "_$$nd_func", "string.fromcharcode", ".constructor", "getmethod(", "springframework", "t(java", "beanshell", "bsh.", "sun.reflect", "console.log(", "console.info(", "process[", "require[", "this[", "constructor[", "prototype[", ".prototype.", "_$$", "module.exports", "function(", "mozilla.javascript", "fileoutputstream", "com.mchange", "commons.collections",
		"ysoserial", "class.forname", "class.module", "bin2hex(", "hex2bin(", "fwrite(", "fputs(", "fread(", "posix_", "getenv(", "get_defined", "phpversion", "php_uname", "pcntl_", "escapeshell", "eval(", "socket_", "gettype(", "array_filter", "ob_start", "spl_autoload", "mysql_query", "mysqli_", "sqlite_", "pg_query", "oci_",
	}
)

// fileShapes finds paths out of a directory and files of the system.
func fileShapes(v string, path bool) (p Payloads) {
	climbs := strings.Count(v, "../") + strings.Count(v, "..\\") + strings.Count(v, "..;/")
	switch {
	case climbs >= 2, climbs == 1 && !path, strings.Contains(v, "..0x2f"), strings.Contains(v, "..0x5c"), strings.Contains(v, "0x2e0x2e"), strings.Contains(v, "..//"), strings.Contains(v, ".../"), strings.Contains(v, "...\\"),
		strings.Contains(v, "/././"), strings.Contains(v, "..%"), strings.Contains(v, "........"), climbs == 1 && path && !strings.HasPrefix(v, "/../") && strings.Contains(v, "/../..") || strings.Contains(v, "....//"), strings.HasSuffix(v, "/..") && !path:
		p |= PayloadTraversal
	}
	if path {
		// What a path asks for is probe.path's, unless it climbs there.
		if p != 0 && containsAny(v, systemFiles) {
			p |= PayloadFile
		}
		return p
	}
	if containsAny(v, systemFiles) || containsAny(v, fileSchemes) {
		p |= PayloadFile
	}
	return p
}

// addressShapes finds URLs where a server would fetch them from inside.
func addressShapes(v string) (p Payloads) {
	if containsAny(v, oddSchemes) {
		p |= PayloadSSRF
	}
	if strings.Contains(v, "//") && containsAny(v, internalHosts) {
		p |= PayloadSSRF
	}
	for _, scheme := range [...]string{"http://", "https://", "ftp://", "ftps://"} {
		if !strings.HasPrefix(v, scheme) && !strings.HasPrefix(v, "url:"+scheme) {
			continue
		}
		rest := v[strings.Index(v, "//")+2:]
		host, file, _ := strings.Cut(rest, "/")
		if n := strings.IndexByte(host, ':'); n > 0 {
			host = host[:n]
		}
		_, ip := parseIPv4(host)
		script := strings.HasSuffix(file, "?") || strings.HasSuffix(host, "?") || strings.HasSuffix(file, ".txt") || strings.HasSuffix(file, ".php") || strings.Contains(file, ".txt?") || strings.Contains(file, ".php?") || strings.HasSuffix(file, "#")
		if ip || scheme[0] == 'f' || script {
			p |= PayloadRemote
		}
	}
	return p
}

// markupShapes finds HTML and script in it.
func markupShapes(v string, c charClass) (p Payloads) {
	if c&charAngle != 0 {
		for i := 0; i+1 < len(v); i++ {
			if v[i] == '<' && (isLower(v[i+1]) || v[i+1] == '/' || v[i+1] == '!' || v[i+1] == '?') {
				p |= PayloadMarkup
				break
			}
		}
	}
	if c&(charAngle|charBracket|charEqual) != 0 && containsAny(v, scriptWords) {
		if p != 0 || strings.Contains(v, "script:") || strings.Contains(v, "(") || strings.Contains(v, "=") && c&charQuoteMark != 0 || strings.Contains(v, "document.") {
			p |= PayloadXSS
		}
	}
	// on...= of an attribute.
	for i := 0; i+4 < len(v); i++ {
		if v[i] != 'o' || v[i+1] != 'n' || i > 0 && (isLower(v[i-1]) || isDigit(v[i-1])) || i == 0 {
			continue
		}
		j := i + 2
		for j < len(v) && isLower(v[j]) {
			j++
		}
		n := j - i
		for j < len(v) && v[j] <= ' ' {
			j++
		}
		if n >= 5 && n <= 22 && j < len(v) && v[j] == '=' {
			return p | PayloadXSS
		}
	}
	if strings.Contains(v, "<!entity") || strings.Contains(v, "<!doctype") && strings.Contains(v, "[") || strings.Contains(v, "<?xml") || strings.Contains(v, "xi:include") {
		p |= PayloadXXE
	}
	return p
}

// templateShapes finds expressions of template languages.
func templateShapes(v string) (p Payloads) {
	for _, pair := range [...][2]string{{"{{", "}}"}, {"${", "}"}, {"#{", "}"}, {"<%", "%>"}, {"{%", "%}"}, {"*{", "}"}, {"[[", "]]"}, {"@{", "}"}, {"#set(", ")"}, {"#foreach", "("}} {
		i := strings.Index(v, pair[0])
		if i < 0 {
			continue
		}
		rest := v[i+len(pair[0]):]
		if strings.HasPrefix(pair[0], "$") && (strings.HasPrefix(rest, "jndi") || strings.Contains(rest, "${") || strings.Contains(rest, ":-") || strings.HasPrefix(rest, "lower:") || strings.HasPrefix(rest, "env:") || strings.HasPrefix(rest, "sys:")) {
			p |= PayloadLookup
		}
		if strings.Contains(rest, pair[1]) {
			p |= PayloadTemplate
		}
	}
	if strings.Contains(v, "jndi:") || strings.Contains(v, "${") && strings.Contains(v, "j") && strings.Contains(v, "n") && strings.Contains(v, "ldap") {
		p |= PayloadLookup
	}
	return p
}

// codeShapes finds code of the languages servers run.
func codeShapes(v string, c charClass, path bool) (p Payloads) {
	if c&(charBracket|charAngle|charShell|charQuoteMark) == 0 && !strings.Contains(v, "java") && !strings.Contains(v, "__") && !strings.Contains(v, "org.") && !strings.Contains(v, "com.") && !strings.Contains(v, "phpinfo") && !strings.Contains(v, "process") && !strings.Contains(v, "runtime") {
		return 0
	}
	if path && c&(charBracket|charAngle) == 0 {
		return 0
	}
	if containsAny(v, codeWords) {
		p |= PayloadCode
	}
	return p
}

// filterShapes finds operators of document stores and directories.
func filterShapes(v string) (p Payloads) {
	if i := strings.IndexByte(v, '$'); i >= 0 && strings.ContainsAny(v, "{[") {
		for _, w := range [...]string{"$ne", "$gt", "$lt", "$regex", "$where", "$in", "$nin", "$exists", "$or", "$and", "$not", "$eq", "$type", "$elemmatch", "$size", "$func"} {
			if strings.Contains(v[i:], w) {
				p |= PayloadNoSQL
			}
		}
	}
	if strings.Contains(v, ")(") || strings.Contains(v, "(|(") || strings.Contains(v, "(&(") || strings.Contains(v, "*)") || strings.Contains(v, "(!(") {
		if strings.Contains(v, "=") && (strings.Contains(v, "*") || strings.Contains(v, "(|") || strings.Contains(v, "(&")) || strings.Contains(v, "*)(") || strings.Contains(v, "*))%00") {
			p |= PayloadLDAP
		}
	}
	return p
}

// headerShapes finds a line break with a header behind it.
func headerShapes(v string, path bool) Payloads {
	for i := range len(v) {
		if v[i] != '\r' && v[i] != '\n' {
			continue
		}
		rest := strings.TrimLeft(v[i:], "\r\n \t")
		for _, h := range [...]string{"set-cookie", "location:", "content-", "http/1", "http/2", "x-", "refresh:", "transfer-encoding", "host:", "get /", "post /", "head /", "<html", "<script", "link:", "bcc:", "cc:", "to:", "subject:", "mail from", "rcpt to", "quit", "flushall", "config set", "options /", "put /", "delete /", "trace /", "data\r", "status:", "bookmark", "user:"} {
			if strings.HasPrefix(rest, h) {
				return PayloadCRLF
			}
		}
		if path && rest != "" {
			return PayloadCRLF
		}
	}
	return 0
}
