// The client side of the servant that the tests call, written by hand:
//
//	module Test { interface Hello { int testHello(string sReq, out string sRsp); }; };

package main

import (
	"context"

	"github.com/TarsCloud/TarsGo/tars/model"
	"github.com/TarsCloud/TarsGo/tars/protocol/codec"
	"github.com/TarsCloud/TarsGo/tars/protocol/res/requestf"
	"github.com/TarsCloud/TarsGo/tars/util/tools"
)

type hello struct {
	servant model.Servant
}

// SetServant is how the communicator hands over what it resolved.
func (h *hello) SetServant(servant model.Servant) { h.servant = servant }

// testHello sends the out parameter along, empty, as the stubs of tars2go do.
func (h *hello) testHello(text string) (ret int32, rsp string, err error) {
	request := codec.NewBuffer()
	if err = request.WriteString(text, 1); err != nil {
		return 0, "", err
	}
	if err = request.WriteString("", 2); err != nil {
		return 0, "", err
	}
	packet := new(requestf.ResponsePacket)
	if err = h.servant.TarsInvoke(context.Background(), 0, "testHello", request.ToBytes(), nil, nil, packet); err != nil {
		return 0, "", err
	}
	response := codec.NewReader(tools.Int8ToByte(packet.SBuffer))
	if err = response.ReadInt32(&ret, 0, true); err != nil {
		return 0, "", err
	}
	err = response.ReadString(&rsp, 2, true)
	return ret, rsp, err
}
