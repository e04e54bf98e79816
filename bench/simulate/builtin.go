package simulate

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

// scenarioFiles are the built-in scenarios: the sites, and attacks.yaml, which
// holds the attacks of the <site>-attacks ones.
//
//go:embed scenarios/*.yaml
var scenarioFiles embed.FS

// Builtins names the built-in scenarios, sorted.
func Builtins() []string {
	names := []string{"tiny", "tiny-attacks"}
	for _, s := range Sites() {
		names = append(names, s, s+"-attacks")
	}
	slices.Sort(names)
	return names
}

// Builtin returns a built-in scenario, which the caller may change.
func Builtin(name string) (*Scenario, bool) {
	if !slices.Contains(Builtins(), name) {
		return nil, false
	}
	base, attacks := strings.CutSuffix(name, "-attacks")
	s := mustLoad(base)
	if !attacks {
		return s, true
	}
	from := mustLoad("attacks")
	s.Name, s.About = name, s.About+", with one attack of each type"
	for _, a := range from.Attacks {
		if base == "tiny" { // two hours, few people
			a.Start /= 12
			a.Requests = min(a.Requests, 120)
			a.Every /= 24
		}
		s.Attacks = append(s.Attacks, a)
	}
	return s, true
}

func mustLoad(name string) *Scenario {
	f, err := scenarioFiles.Open("scenarios/" + name + ".yaml")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	defer f.Close()
	s, err := Load(f)
	if err != nil {
		panic(fmt.Sprintf("BUG: scenarios/%s.yaml: %v", name, err))
	}
	return s
}

// Described is a name with what it stands for.
type Described struct{ Name, About string }

// Profiles describes the benign profiles, Attacks the types of attack with their
// variants.
func Profiles() []Described {
	var list []Described
	for _, p := range profiles() {
		list = append(list, Described{p.name, p.about})
	}
	return list
}

// Attacks describes the types of attack; variants are "type/variant".
func Attacks() []Described {
	var list []Described
	for _, k := range attackKinds() {
		list = append(list, Described{k.name, k.about})
		for _, v := range k.variants {
			list = append(list, Described{k.name + "/" + v.name, v.about})
		}
	}
	return list
}
