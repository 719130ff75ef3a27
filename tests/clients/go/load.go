// A load that goes on while the tests do other things: calls of the servant, and queries to the registry.

package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/TarsCloud/TarsGo/tars/protocol/res/endpointf"
)

// pause between two calls of one worker: what is to be seen is loss, not speed.
const pause = 2 * time.Millisecond

// At most so many different errors are told.
const errorsTold = 20

type load struct {
	stop    chan struct{}
	workers sync.WaitGroup
	mutex   sync.Mutex
	done    map[string]int
	failed  map[string]int
	errors  []string
	slowest map[string]time.Duration
}

// startLoad lets workers of each kind call and query until the op "loaded".
func (c *client) startLoad(cmd command) answer {
	if c.load != nil {
		return failure("there is a load already")
	}
	if cmd.Workers < 1 {
		return failure("workers is missing")
	}
	proxy, err := c.proxy(cmd.Obj)
	if err != nil {
		return failure(err)
	}
	l := &load{
		stop: make(chan struct{}), done: map[string]int{}, failed: map[string]int{}, slowest: map[string]time.Duration{},
	}
	c.load = l
	for n := 0; n < cmd.Workers; n++ {
		l.work("calls", func() error {
			ret, rsp, err := proxy.testHello(cmd.Text)
			if err == nil && (ret != 0 || rsp == "") {
				err = fmt.Errorf("returned %d %q", ret, rsp)
			}
			return err
		})
		l.work("queries", func() error {
			active, inactive := []endpointf.EndpointF{}, []endpointf.EndpointF{}
			ret, err := c.query.FindObjectById4Any(cmd.Obj, &active, &inactive)
			if err == nil && (ret != 0 || len(active) == 0) {
				err = fmt.Errorf("returned %d and %d endpoints", ret, len(active))
			}
			return err
		})
	}
	return answer{"ok": true}
}

// work does one thing again and again until the load is stopped.
func (l *load) work(kind string, do func() error) {
	l.workers.Add(1)
	go func() {
		defer l.workers.Done()
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(pause):
			}
			began := time.Now()
			err := do()
			took := time.Since(began)
			l.mutex.Lock()
			l.done[kind]++
			if took > l.slowest[kind] {
				l.slowest[kind] = took
			}
			if err != nil {
				l.failed[kind]++
				if len(l.errors) < errorsTold {
					l.errors = append(l.errors, fmt.Sprintf("%s %s: %v", began.Format("15:04:05.000"), kind, err))
				}
			}
			l.mutex.Unlock()
		}
	}()
}

// stopLoad ends the load and tells what became of it.
func (c *client) stopLoad() answer {
	if c.load == nil {
		return failure("there is no load")
	}
	l := c.load
	c.load = nil
	close(l.stop)
	l.workers.Wait()
	told := answer{"ok": true, "errors": l.errors}
	for _, kind := range []string{"calls", "queries"} {
		told[kind] = answer{
			"done": l.done[kind], "failed": l.failed[kind], "slowest_ms": l.slowest[kind].Milliseconds(),
		}
	}
	return told
}
