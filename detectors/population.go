package detectors

// How many people are behind an address? Where they show credentials, these are
// counted. Else their user agents tell: the edition knows how often each agent is
// used, hence how many different ones N people bring, and that is read backwards.

// CrowdCurve is how many distinct user agents are expected of crowds of the sizes
// that peopleAt gives, in 1/256, rising. The zero value is no curve.
type CrowdCurve [peopleSizes]uint32

const peopleSizes = 10

func peopleAt(i int) int {
	return [peopleSizes]int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}[i]
}

// shippedCrowd is the curve of an ordinary public site.
func shippedCrowd() CrowdCurve {
	return CrowdCurve{256, 485, 1050, 1850, 3070, 5700, 8700, 13000, 21500, 30700}
}

// people is the size of the crowd that so many agents are expected of, at least
// 1; beyond the curve it is that of its end.
func (c *CrowdCurve) people(agents int) int {
	want := uint32(min(agents, 1<<20)) * 256
	if want <= c[0] {
		return 1
	}
	for i := 1; i < peopleSizes; i++ {
		if want > c[i] {
			continue
		}
		lo, hi, step := peopleAt(i-1), peopleAt(i), c[i]-c[i-1]
		return lo + int(uint64(hi-lo)*uint64(want-c[i-1])/uint64(max(1, step)))
	}
	return peopleAt(peopleSizes - 1)
}

// rising reports whether the curve can be read backwards.
func (c *CrowdCurve) rising() bool {
	for i := 1; i < peopleSizes; i++ {
		if c[i] <= c[i-1] {
			return false
		}
	}
	return c[0] > 0
}

// crowdAgents is how many people must have taught before their agents count.
const crowdAgents = 50

// fitCrowd learns the curve from who used which agent: each pair of an address
// and an agent stands for a person. An agent seen once stands for all those that
// nobody was seen with (Good 1953): N people bring N times its share of new ones.
func (f *Fitter) fitCrowd() CrowdCurve {
	type pair struct {
		client uint64
		agent  uint32
	}
	pairs := map[pair]struct{}{}
	uses := map[uint32]int{}
	for i := range f.rows {
		r := &f.rows[i]
		if r.agent == 0 {
			continue
		}
		p := pair{r.client, r.agent}
		if _, ok := pairs[p]; !ok {
			pairs[p] = struct{}{}
			uses[r.agent]++
		}
	}
	if len(pairs) < crowdAgents {
		return shippedCrowd()
	}
	// How many agents have each number of users; sums below go by that number.
	most := 0
	for _, n := range uses {
		most = max(most, n)
	}
	spectrum := make([]int, most+1)
	for _, n := range uses {
		spectrum[n]++
	}
	total := float64(len(pairs))
	var c CrowdCurve
	for i := range c {
		n := peopleAt(i)
		expected := float64(n) * float64(spectrum[1]) / total
		for used := 2; used <= most; used++ {
			if spectrum[used] == 0 {
				continue
			}
			absent := 1.0 // the chance that nobody of n has it
			for range n {
				absent = float64(absent * (1 - float64(used)/total))
			}
			expected += float64(float64(spectrum[used]) * (1 - absent))
		}
		c[i] = uint32(expected*256 + 0.5)
	}
	if !c.rising() {
		return shippedCrowd()
	}
	return c
}
