package detectors

import (
	"fmt"
	"slices"

	"weir/pipeline"
)

// Configure makes modes and logins those in force from the next request on, as if
// they had been in Config; the correlator of Config is told, too. What a detector that
// was off did not see it does not know. An unknown name is an error that changes
// nothing.
func (s *Set) Configure(modes map[string]Mode, logins *pipeline.LoginRules) error {
	if err := checkModes(modes); err != nil {
		return err
	}
	s.cfg.Modes, s.cfg.Logins = modes, logins
	for _, w := range s.workers {
		w.v.logins = logins
	}
	if s.cfg.Cross != nil {
		return s.cfg.Cross.Configure(modes)
	}
	return nil
}

// Configure makes modes those in force from the next signal on.
func (c *Correlator) Configure(modes map[string]Mode) error {
	if err := checkModes(modes); err != nil {
		return err
	}
	c.cfg.Modes = modes
	for m := range c.takers {
		c.takers[m] = nil
		if !c.here[m] {
			continue
		}
		for j, of := range c.junctions {
			if of.wants(pipeline.Meeting(m)) && modes[of.name()] != ModeOff {
				c.takers[m] = append(c.takers[m], j)
			}
		}
	}
	return nil
}

func checkModes(modes map[string]Mode) error {
	for name := range modes {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("detect.%s: no such detector; there are %v", name, Names())
		}
	}
	return nil
}
