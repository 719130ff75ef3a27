// A TarsGo client that the tests drive: commands on standard input, answers on standard output, a JSON
// object a line. ../README.md has the contract that it shares with the other clients.

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/TarsCloud/TarsGo/tars"
	"github.com/TarsCloud/TarsGo/tars/protocol/res/endpointf"
	"github.com/TarsCloud/TarsGo/tars/protocol/res/queryf"
	"github.com/TarsCloud/TarsGo/tars/util/endpoint"
)

type command struct {
	Op       string `json:"op"`
	Obj      string `json:"obj"`
	Text     string `json:"text"`
	Function string `json:"function"`
	ID       string `json:"id"`
	Set      string `json:"set"`
	Station  string `json:"station"`
	Workers  int    `json:"workers"`
}

type answer map[string]any

type client struct {
	comm    *tars.Communicator
	locator string
	query   *queryf.QueryF
	proxies map[string]*hello
	load    *load
}

func main() {
	locator := flag.String("locator", "", "the registry: tars.tarsregistry.QueryObj@tcp -h HOST -p PORT")
	refresh := flag.Int("refresh-ms", 60000, "milliseconds between two refreshes of the endpoints")
	set := flag.String("set", "", "the caller's set, name.area.group")
	flag.Parse()
	if *locator == "" || *refresh < 1 {
		fmt.Fprintln(os.Stderr, "--locator is needed, --refresh-ms at least 1")
		os.Exit(2)
	}
	// Standard output is for answers only: the library logs to what os.Stdout says.
	answers := json.NewEncoder(os.Stdout)
	answers.SetEscapeHTML(false)
	os.Stdout = os.Stderr

	c := newClient(*locator, *refresh, *set)
	_ = answers.Encode(answer{"ready": true, "client": "TarsGo v" + tars.Version})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var cmd command
		if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
			_ = answers.Encode(failure(err))
			continue
		}
		_ = answers.Encode(c.run(cmd))
		if cmd.Op == "quit" {
			return
		}
	}
}

func newClient(locator string, refresh int, set string) *client {
	// The library looks for --config in os.Args, and writes a panic's stacks beside os.Args[0].
	here, _ := os.Getwd()
	os.Args = []string{filepath.Join(here, "client")}
	config := tars.GetClientConfig()
	config.RefreshEndpointInterval = refresh
	config.Stat = "" // no call statistics: they would ask the registry for tars.tarsstat.StatObj
	comm := tars.GetCommunicator()
	comm.SetLocator(locator)
	if set != "" {
		comm.SetProperty("setdivision", set)
		comm.SetProperty("enableset", true)
	}
	c := &client{comm: comm, locator: locator, query: new(queryf.QueryF), proxies: map[string]*hello{}}
	comm.StringToProxy(locator, c.query)
	return c
}

func failure(reason any) answer {
	var coded *tars.Error
	if err, ok := reason.(error); ok && errors.As(err, &coded) {
		reason = fmt.Sprintf("%d: %s", coded.Code, coded.Message)
	}
	return answer{"ok": false, "error": fmt.Sprint(reason)}
}

func (c *client) run(cmd command) answer {
	switch cmd.Op {
	case "call":
		proxy, err := c.proxy(cmd.Obj)
		if err != nil {
			return failure(err)
		}
		ret, rsp, err := proxy.testHello(cmd.Text)
		if err != nil {
			return failure(err)
		}
		return answer{"ok": true, "ret": ret, "rsp": rsp}
	case "endpoints":
		return c.endpoints(cmd.Obj)
	case "query":
		return c.ask(cmd)
	case "load":
		return c.startLoad(cmd)
	case "loaded":
		return c.stopLoad()
	case "quit":
		return answer{"ok": true}
	}
	return failure(fmt.Sprintf("no such op: %q", cmd.Op))
}

// proxy resolves an object the first time, and keeps it: from then on the library refreshes it.
func (c *client) proxy(obj string) (*hello, error) {
	if obj == "" {
		return nil, fmt.Errorf("obj is missing")
	}
	if _, ok := c.proxies[obj]; !ok {
		proxy := new(hello)
		c.comm.StringToProxy(obj, proxy)
		c.proxies[obj] = proxy
	}
	return c.proxies[obj], nil
}

// endpoints tells what the library holds; for the registry's own object what it reaches the registry by.
func (c *client) endpoints(obj string) answer {
	var held []*endpoint.Endpoint
	if obj == strings.SplitN(c.locator, "@", 2)[0] {
		held = c.query.Endpoints()
	} else {
		proxy, err := c.proxy(obj)
		if err != nil {
			return failure(err)
		}
		held = proxy.servant.Endpoints()
	}
	list := make([]answer, 0, len(held))
	sort.SliceStable(held, func(i, j int) bool {
		if held[i].Host != held[j].Host {
			return held[i].Host < held[j].Host
		}
		return held[i].Port < held[j].Port
	})
	for _, e := range held {
		list = append(list, answer{
			"host": e.Host, "port": e.Port, "istcp": e.Istcp, "timeout": e.Timeout, "grid": e.Grid,
			"setId": e.SetId, "weight": e.Weight, "weightType": e.WeightType,
		})
	}
	return answer{"ok": true, "endpoints": list}
}

// ask calls a function of QueryF with the library's own stub.
func (c *client) ask(cmd command) answer {
	var ret int32
	var err error
	active, inactive := []endpointf.EndpointF{}, []endpointf.EndpointF{}
	switch cmd.Function {
	case "findObjectById":
		active, err = c.query.FindObjectById(cmd.ID)
	case "findObjectById4Any":
		ret, err = c.query.FindObjectById4Any(cmd.ID, &active, &inactive)
	case "findObjectById4All":
		ret, err = c.query.FindObjectById4All(cmd.ID, &active, &inactive)
	case "findObjectByIdInSameGroup":
		ret, err = c.query.FindObjectByIdInSameGroup(cmd.ID, &active, &inactive)
	case "findObjectByIdInSameStation":
		ret, err = c.query.FindObjectByIdInSameStation(cmd.ID, cmd.Station, &active, &inactive)
	case "findObjectByIdInSameSet":
		ret, err = c.query.FindObjectByIdInSameSet(cmd.ID, cmd.Set, &active, &inactive)
	default:
		err = fmt.Errorf("no such function: %q", cmd.Function)
	}
	if err != nil {
		return failure(err)
	}
	return answer{"ok": true, "ret": ret, "active": active, "inactive": inactive}
}
