package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// The layers: a stage imports weir/pipeline and nothing else of ours, pipeline
// imports none of ours, only cmd/weir sees two stages, and each driver has one
// importer. Imports are parsed from the files themselves: the answer of the go
// command can come from a cache.

// layerStages are the stages; a storage/x is part of storage.
func layerStages() []string {
	return []string{"collector", "detectors", "storage", "alerts", "console"}
}

// layerDrivers maps a module to the only directory that may import it.
func layerDrivers() map[string]string {
	return map[string]string{
		"modernc.org/sqlite":                     "storage/sqlite",
		"github.com/ClickHouse/clickhouse-go/v2": "storage/clickhouse",
		"github.com/segmentio/kafka-go":          "pipeline/kafka",
	}
}

// checkLayers parses every Go file under fsys and returns how many it looked at
// and what is wrong, one line each, sorted.
func checkLayers(fsys fs.FS) (looked int, problems []string, err error) {
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" || base == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		looked++
		problems = append(problems, checkFile(name, f)...)
		return nil
	})
	slices.Sort(problems)
	return looked, problems, err
}

func checkFile(name string, f *ast.File) (problems []string) {
	dir := path.Dir(name)
	top, _, _ := strings.Cut(dir, "/")
	test := strings.HasSuffix(name, "_test.go")
	bad := func(format string, args ...any) {
		problems = append(problems, name+": "+fmt.Sprintf(format, args...))
	}
	var stages []string
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			bad("import %s is not a string", spec.Path.Value)
			continue
		}
		for module, home := range layerDrivers() {
			if (imp == module || strings.HasPrefix(imp, module+"/")) && dir != home {
				bad("imports %s, which is for %s alone", imp, home)
			}
		}
		if top == "detectors" && !test && dir != "detectors/cases" && (imp == "math/rand" || strings.HasPrefix(imp, "math/rand/")) {
			bad("imports %s: detectors are a function of the events", imp)
		}
		ours, found := strings.CutPrefix(imp, "weir/")
		if !found {
			continue
		}
		target, _, _ := strings.Cut(ours, "/")
		if slices.Contains(layerStages(), target) && !slices.Contains(stages, target) {
			stages = append(stages, target)
		}
		switch {
		case test && ours == "bench/services":
			// Any test may start a real server.
		case slices.Contains(layerStages(), top):
			if ours != "pipeline" && target != top {
				bad("a stage imports %s", imp)
			}
		case dir == "pipeline":
			// Its external tests may use pipeline itself and its subpackages.
			if !test || target != "pipeline" {
				bad("pipeline imports %s", imp)
			}
		case top == "pipeline":
			if target != "pipeline" {
				bad("pipeline imports %s", imp)
			}
		}
	}
	if len(stages) > 1 && dir != "cmd/weir" {
		bad("sees the stages %s; only cmd/weir sees two", strings.Join(stages, " and "))
	}
	if top == "detectors" && !test {
		problems = append(problems, checkClock(name, f)...)
	}
	return problems
}

// checkClock finds uses of the machine's clock.
func checkClock(name string, f *ast.File) (problems []string) {
	local := ""
	for _, spec := range f.Imports {
		if spec.Path.Value != `"time"` {
			continue
		}
		local = "time"
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if local == "." {
			return []string{name + ": imports time with a dot"}
		}
	}
	if local == "" {
		return nil
	}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep"}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && slices.Contains(clock, sel.Sel.Name) {
				problems = append(problems, name+": uses time."+sel.Sel.Name+": detectors know event time only")
			}
		}
		return true
	})
	return problems
}

// repositoryRoot is the directory of go.mod, seen from this package.
func repositoryRoot(t testing.TB) string {
	t.Helper()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("repository root: %v", err)
	}
	return root
}

func TestLayers(t *testing.T) {
	looked, problems, err := checkLayers(os.DirFS(repositoryRoot(t)))
	if err != nil {
		t.Fatal(err)
	}
	if looked == 0 {
		t.Fatal("looked at no file")
	}
	for _, p := range problems {
		t.Error(p)
	}
}

func TestLayersFindViolations(t *testing.T) {
	f := func(name, src string, want ...string) {
		t.Helper()
		looked, problems, err := checkLayers(fstest.MapFS{name: {Data: []byte(src)}})
		if err != nil || looked != 1 {
			t.Fatalf("%s: looked at %d files, %v", name, looked, err)
		}
		if d := cmp.Diff(want, problems); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	imports := func(list ...string) string {
		s := "package p\n"
		for _, i := range list {
			s += "import _ " + strconv.Quote(i) + "\n"
		}
		return s
	}
	f("alerts/a.go", imports("weir/pipeline", "time"))
	f("alerts/a.go", imports("weir/collector"), "alerts/a.go: a stage imports weir/collector")
	f("alerts/a_test.go", imports("weir/detectors"), "alerts/a_test.go: a stage imports weir/detectors")
	f("alerts/a.go", imports("weir/pipeline/kafka"), "alerts/a.go: a stage imports weir/pipeline/kafka")
	f("console/c.go", imports("weir/console/ui"))
	f("collector/capture/c.go", imports("weir/collector", "weir/pipeline"))
	f("storage/sqlite/s.go", imports("weir/storage", "weir/pipeline", "modernc.org/sqlite"))
	f("storage/sqlite/s.go", imports("weir/alerts"), "storage/sqlite/s.go: a stage imports weir/alerts")
	f("storage/s.go", imports("modernc.org/sqlite/lib"), "storage/s.go: imports modernc.org/sqlite/lib, which is for storage/sqlite alone")
	f("cmd/weir/m.go", imports("modernc.org/sqlite"), "cmd/weir/m.go: imports modernc.org/sqlite, which is for storage/sqlite alone")
	f("cmd/weir/m.go", imports("weir/alerts", "weir/collector", "weir/storage/sqlite"))
	f("pipeline/p.go", imports("weir/alerts"), "pipeline/p.go: pipeline imports weir/alerts")
	f("pipeline/p.go", imports("weir/pipeline/kafka"), "pipeline/p.go: pipeline imports weir/pipeline/kafka")
	f("pipeline/p_test.go", imports("weir/pipeline"))
	f("pipeline/p_test.go", imports("weir/collector"), "pipeline/p_test.go: pipeline imports weir/collector")
	f("pipeline/kafka/k.go", imports("weir/pipeline", "github.com/segmentio/kafka-go"))
	f("pipeline/kafka/k.go", imports("weir/storage"), "pipeline/kafka/k.go: pipeline imports weir/storage")
	f("collector/k.go", imports("github.com/segmentio/kafka-go/sasl"), "collector/k.go: imports github.com/segmentio/kafka-go/sasl, which is for pipeline/kafka alone")
	f("bench/x/b.go", imports("weir/collector", "weir/pipeline"))
	f("bench/x/b.go", imports("weir/collector", "weir/alerts"), "bench/x/b.go: sees the stages collector and alerts; only cmd/weir sees two")
	f("detectors/d.go", imports("math/rand/v2"), "detectors/d.go: imports math/rand/v2: detectors are a function of the events")
	f("detectors/d_test.go", imports("math/rand/v2", "time"))
	f("detectors/d.go", "package p\nimport \"time\"\nvar d time.Duration")
	f("detectors/d.go", "package p\nimport \"time\"\nvar n = time.Now", "detectors/d.go: uses time.Now: detectors know event time only")
	f("detectors/d.go", "package p\nimport x \"time\"\nfunc f() { _ = x.Since(x.Time{}) }", "detectors/d.go: uses time.Since: detectors know event time only")
	f("detectors/d.go", "package p\nimport . \"time\"\nvar n = Now", "detectors/d.go: imports time with a dot")
	f("detectors/d_test.go", "package p\nimport \"time\"\nvar n = time.Now")

	if looked, _, err := checkLayers(fstest.MapFS{"testdata/x.go": {Data: []byte("package x")}, "README.md": {}}); looked != 0 || err != nil {
		t.Errorf("looked at %d files (%v), want none: testdata and other files are no code", looked, err)
	}
	if _, _, err := checkLayers(fstest.MapFS{"alerts/x.go": {Data: []byte("pack")}}); err == nil {
		t.Error("a file that does not parse gives no error")
	}
}
