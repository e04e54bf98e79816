package calibrate

import (
	"encoding/binary"
	"math"
	"strconv"

	"weir/detectors"
	"weir/pipeline"
)

// client is a clean client under way. What it always does it draws once, in
// begin; day plays one of its days.
type client struct {
	dice
	b     *detectors.Baselines // the priors that it is drawn from
	items *catalogue
	frame *detectors.Frame     // of one client
	wide  *detectors.WideFrame // or of what is met elsewhere
	// together: news comes all at once, which detectors take for chance.
	together bool

	o    pipeline.Observation
	r    pipeline.Request
	at   pipeline.Time
	n    uint64 // makes names that nobody had before
	best pipeline.Nats
	said int // symbols of the day at hand

	share, second, mean float64
	news                [4]float64
	id                  int64
	agent               uint64
}

// see shows the observation at hand to the detector. symbols is how many answers
// to a question of the detector's it holds.
func (c *client) see(symbols int, endpoint *detectors.EndpointBaseline) {
	c.o.Time, c.o.Agent, c.o.Page, c.o.Status = c.at, c.agent, -1, c.r.Status
	c.said += symbols
	c.best = max(c.best, c.frame.See(&c.o, &c.r, endpoint))
}

// name is new at each call.
func (c *client) name() uint64 {
	c.n++
	return pipeline.Mix64(c.n, c.agent)
}

// wait lets seconds pass, exponentially distributed.
func (c *client) wait(seconds float64) {
	c.at += pipeline.Time(seconds * c.ExpFloat64() * 1e6)
}

// request begins an observation.
func (c *client) request(status uint16, flags pipeline.ObservationFlags) {
	c.o = pipeline.Observation{Flags: flags, Bytes: 2000, Template: template, Item: c.name()}
	c.o.Path = c.o.Item
	c.r = pipeline.Request{Status: status, Verb: pipeline.VerbGet}
}

const template = 0x7e3a

// tell takes evidence of a wider view, after symbols more answers.
func (c *client) tell(symbols int, score pipeline.Nats) {
	c.said += symbols
	c.best = max(c.best, score)
}

// population is how clean clients of one detector behave.
type population struct {
	detector string
	about    string // whom or what, where it is no client
	says     string // what is drawn, for the report
	begin    func(c *client)
	day      func(c *client)
	met      pipeline.Meeting // where, for a wider view
	junction string
}

// name is what the report calls it.
func (p *population) name() string {
	if p.about == "" {
		return p.detector
	}
	return p.detector + ", " + p.about
}

// open makes the frame that c's evidence goes into.
func (p *population) open(c *client, null *detectors.Baselines) (err error) {
	if p.junction != "" {
		c.wide, err = detectors.NewWideFrame(null, p.met, p.junction)
	} else {
		c.frame, err = detectors.NewFrame(null, p.detector)
	}
	return err
}

// perDay is how often ordinary clients do what detectors take for rare: a count
// within a window of which the half-life is a day.
func perDay(mean float64) detectors.Rate {
	return detectors.Rate{Mean: uint32(mean * 256), Shape: 179}
}

// weekly is such a rate for a count of mean within a week's half-life.
func weekly(mean float64) detectors.Rate { return perDay(mean * math.Ln2 / 7) }

// populations lists them in the order of the catalog.
func populations() []population {
	return []population{
		{
			"probe.path", "", "first contacts a day as many as items are read; the share that misses",
			func(c *client) { c.share, c.mean = c.dice.share(c.b.Probe.Beta), c.rate(c.b.Crawl) },
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(40)
					if c.yes(c.share) {
						c.request(404, pipeline.ObsRead|pipeline.ObsMiss)
					} else {
						c.request(200, pipeline.ObsRead)
					}
					c.see(1, nil)
				}
			}, 0, "",
		},
		{
			"auth.bruteforce", "", "attempts a day at an account that the log does not name, 9 s apart on average; the share that fails",
			func(c *client) { c.share, c.mean = c.dice.share(c.b.Login.Beta), c.rate(perDay(4)) },
			func(c *client) {
				for range c.poisson(c.mean * c.skew()) {
					c.wait(9 / c.skew())
					c.login(0, c.yes(c.share))
				}
			}, 0, "",
		},
		{
			"enum.object", "", "eight first contacts with objects a day on average, over-dispersed; the share that misses; the share of near ids",
			func(c *client) {
				c.share, c.second, c.mean = c.dice.share(c.b.Object.Beta), c.dice.share(c.b.Near.Beta), 8*c.gamma(1)
				c.id = 1 + c.Int64N(1<<40)
			},
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(15)
					if c.yes(c.second) {
						c.id += 1 + c.Int64N(4)
					} else {
						c.id = 1 + c.Int64N(1<<40)
					}
					status := uint16(200)
					if c.yes(c.share) {
						status = []uint16{403, 404}[c.IntN(2)]
					}
					c.request(status, pipeline.ObsRead|pipeline.ObsSlot|pipeline.ObsNumber)
					c.o.Object, c.o.Number = c.o.Item, c.id
					c.see(2, nil)
				}
			}, 0, "",
		},
		{
			"scrape.crawl", "", "reads a day; which items, by their popularity",
			func(c *client) { c.mean = c.rate(c.b.Crawl) },
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(40)
					c.request(200, pipeline.ObsRead|pipeline.ObsSlot)
					it := c.items.draw(c.dice)
					c.o.Item, c.o.Path, c.o.Tail = it.hash, it.hash, it.tail
					c.see(1, nil)
				}
			}, 0, "",
		},
		{
			"auth.stuffing", "", "accounts tried a day; the share whose first attempt fails",
			guest, func(c *client) { c.guests(1) }, 0, "",
		},
		{
			"auth.spraying", "", "the same, each account up to three times",
			guest, func(c *client) { c.guests(3) }, 0, "",
		},
		{
			"enum.user", "", "names a day that resets and look-ups are asked for; the share of them that is unknown",
			func(c *client) {
				c.share, c.mean = c.dice.share(detectors.Beta{A: 384, B: 3456}), c.rate(weekly(3))*c.skew()
			},
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(60)
					status := uint16(200)
					if c.yes(c.share * c.skew()) {
						status = 404
					}
					c.request(status, pipeline.ObsAsks)
					c.o.User = c.o.Item
					c.see(2, nil)
				}
			}, 0, "",
		},
		{
			"inject.probe", "", "new inputs a day; the share that has an odd shape, one in a thousand of them a shape that ordinary text does not have",
			func(c *client) { c.share, c.mean = c.dice.share(c.b.Inject.Beta), c.rate(c.b.Crawl) },
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(40)
					c.request(200, pipeline.ObsRead)
					c.o.Template = template + uint64(c.IntN(8))
					c.r.Query = "q=*"
					if c.yes(c.share) {
						c.r.Slot = uint64(2 + c.IntN(12))
						c.r.Payloads = []pipeline.Payloads{pipeline.PayloadQuote, pipeline.PayloadMeta, pipeline.PayloadMarkup, pipeline.PayloadDouble}[c.IntN(4)]
						if c.yes(0.001 * c.skew() * c.skew()) {
							c.r.Payloads = pipeline.PayloadComment << c.IntN(20)
						}
					}
					c.see(1, nil)
				}
			}, 0, "",
		},
		{
			"data.exposure", "", "bytes a day; the share of answers far beyond their endpoint's",
			func(c *client) {
				c.mean = c.b.Bytes.Mu.Float() + float64(c.b.Bytes.Sigma)/256*c.NormFloat64()
				c.share = c.dice.share(detectors.Beta{A: 51, B: 40 * 256})
			},
			func(c *client) {
				n := 1 + c.poisson(8)
				left := math.Exp(min(c.mean, 35)) * c.Float64()
				for range n {
					c.wait(60)
					c.request(200, pipeline.ObsRead)
					if c.yes(c.share * c.skew()) {
						c.o.Bytes = 4 * small.Sizes.P99 * 2
						c.see(1, &small)
						continue
					}
					part := left * c.Float64()
					left -= part
					c.o.Bytes = int64(part)
					c.see(1, &large)
				}
			}, 0, "",
		},
		{
			"volume.flood", "", "requests in the busiest minute of a day, and twice as many in the nine after it; half of the answers are server errors, so that nothing caps the evidence",
			func(c *client) { c.mean = c.rate(c.b.Volume) },
			func(c *client) {
				busy := c.poisson(c.mean)
				for i := range 3 * busy {
					c.wait(map[bool]float64{true: 60, false: 270}[i < busy] / float64(busy))
					c.request([]uint16{200, 502}[c.IntN(2)], pipeline.ObsRead)
					c.see(1, nil)
				}
			}, 0, "",
		},
		{
			"enum.object", "of others", "eight first contacts with objects a day on average, over-dispersed; the share that is another's, each of another owner",
			func(c *client) { c.share, c.mean = c.dice.share(c.b.Share.Beta), 8*c.gamma(1) },
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(15)
					c.request(200, pipeline.ObsRead|pipeline.ObsSlot)
					by := uint32(0)
					if c.yes(c.share) {
						by = uint32(c.name()) | 1
					}
					c.o.Object, c.o.Time, c.o.Status = c.o.Item, c.at, 200
					c.tell(1, c.wide.Contact(&c.o, &c.r, by))
				}
			}, pipeline.MeetPrincipal, "enum.object",
		},
		{
			"auth.bruteforce", "at one account", "logins a day from places and programs new to the account; the share that fails",
			func(c *client) { c.share, c.mean = c.dice.share(c.b.Login.Beta), c.rate(perDay(1)) },
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(3600)
					guessing, _ := c.stranger(uint32(c.name())|1, c.IntN(8), c.yes(c.share))
					c.tell(1, guessing)
				}
			}, pipeline.MeetAccount, "auth.takeover",
		},
		{
			"auth.takeover", "", "two logins a day on average that work; the share from a new place (one in eight, of which one in four in a new country) and with a new program (one in fifteen), each account's own",
			func(c *client) {
				c.mean, c.id = 2*c.gamma(1), 1
				c.share, c.second = c.dice.share(detectors.Beta{A: 256, B: 7 * 256}), c.dice.share(detectors.Beta{A: 256, B: 14 * 256})
				c.news[0] = c.dice.share(detectors.Beta{A: 256, B: 3 * 256})
				if c.together {
					c.mean, c.share, c.news[0] = 2, 0.1, 1
				}
			},
			func(c *client) {
				for range c.poisson(c.mean) {
					c.wait(3600)
					place, program := uint32(1), 0
					if c.yes(c.share) {
						place = uint32(c.name()) | 1
					}
					if c.yes(c.second) && !c.together || c.together && place != 1 {
						program = 1 + c.IntN(1<<20)
					}
					if c.r.Country = (pipeline.Country{'D', 'E'}); place != 1 && c.yes(c.news[0]) {
						c.r.Country = pipeline.Country{byte('A' + place%26), byte('A' + place/26%26)}
					}
					_, takeover := c.stranger(place, program, false)
					c.tell(2, takeover)
				}
			}, pipeline.MeetAccount, "auth.takeover",
		},
		{
			"key.misuse", "", "five requests a day with a key; how often it shows a new place, program, write and refusal, each key's own",
			func(c *client) {
				// Rates as the detector has it: with a prior that knows nothing (Jeffreys).
				for i := range c.news {
					c.news[i] = 2 * math.Pow(c.Float64(), 2)
				}
				c.id, c.second = 1, 1
			},
			func(c *client) {
				if c.second == 1 { // it is known for weeks
					c.second = 0
					c.request(200, pipeline.ObsRead)
					c.r.ASN, c.o.Time, c.o.Status = uint32(c.id), c.at-20*86400e6, 200
					c.wide.Key(&c.o, &c.r)
				}
				moved := c.yes(1 - math.Exp(-c.news[0]))
				if moved {
					c.id = int64(uint32(c.name()) | 1)
				}
				for range 5 {
					c.wait(3600)
					fresh := func(i int) bool { return !c.together && c.yes(1-math.Exp(-c.news[i]/5)) || c.together && moved }
					c.request(200, pipeline.ObsRead)
					switch {
					case fresh(1):
						c.o.Endpoint, c.r.Status = c.name(), 403
					case fresh(2):
						c.o.Endpoint, c.o.Flags, c.r.Verb = c.name(), 0, pipeline.VerbPost
					}
					if fresh(3) {
						c.r.JA4 = programs[c.IntN(len(programs))]
						c.r.Agent = "client/1"
					}
					c.r.ASN, c.o.Time, c.o.Status = uint32(c.id), c.at, c.r.Status
					c.tell(1, c.wide.Key(&c.o, &c.r))
				}
			}, pipeline.MeetPrincipal, "key.misuse",
		},
	}
}

// Answers of one endpoint are tiny, so that what is huge there adds no bytes to
// speak of, and those of the other are never huge: bytes and sizes are separate
// facts.
var (
	small = detectors.EndpointBaseline{Template: template, Sizes: detectors.Sizes{N: 1000, Median: 100, P99: 256, P999: 300}}
	large = detectors.EndpointBaseline{Template: template + 1, Sizes: detectors.Sizes{N: 1000, Median: 1 << 20, P99: 1 << 55, P999: 1 << 55}}
)

// skew is how far the truth is off where no prior of the edition says what it is:
// as far as the share of failed logins.
func (c *client) skew() float64 { return c.b.Login.Mean() / 0.2 }

// login is an attempt at account user; 0: the log does not name it.
func (c *client) login(user uint64, failed bool) {
	if failed {
		c.request(401, pipeline.ObsLogin|pipeline.ObsFailed)
	} else {
		c.request(200, pipeline.ObsLogin|pipeline.ObsWorked)
	}
	c.o.User = user
	c.see(1, nil)
}

func guest(c *client) {
	c.share, c.mean = c.dice.share(c.b.LoginUser.Beta), c.rate(perDay(1))
}

// guests lets people log in, each up to tries times.
func (c *client) guests(tries int) {
	for range c.poisson(c.mean) {
		c.wait(300)
		user, failed := c.name(), c.yes(c.share)
		c.login(user, failed)
		for i := 1; i < tries && failed; i++ {
			c.wait(9)
			failed = c.yes(c.share)
			c.login(user, failed)
		}
	}
}

// stranger is a login at the account from a place, with a program.
func (c *client) stranger(place uint32, program int, failed bool) (guessing, takeover pipeline.Nats) {
	country := c.r.Country
	c.request(200, pipeline.ObsLogin|pipeline.ObsWorked)
	if failed {
		c.request(401, pipeline.ObsLogin|pipeline.ObsFailed)
	}
	c.r.Country = country
	c.o.Time, c.o.Status, c.o.Owner = c.at, c.r.Status, pipeline.Mix64(uint64(place), c.agent)
	c.r.ASN, c.r.JA4, c.r.LoginUser = place, programs[program%len(programs)], "u_owner"
	c.r.Address[10], c.r.Address[11] = 0xff, 0xff
	binary.BigEndian.PutUint32(c.r.Address[12:], place)
	return c.wide.Login(&c.o, &c.r)
}

// programs are as many as there are in use.
var programs = makePrograms()

func makePrograms() []string {
	p := make([]string, 256)
	for i := range p {
		p[i] = "t13d" + strconv.Itoa(i)
	}
	return p
}
