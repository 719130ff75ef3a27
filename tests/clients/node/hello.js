// The client side of the servant that the tests call, written by hand:
//
//   module Test { interface Hello { int testHello(string sReq, out string sRsp); }; };

'use strict';

const { TarsInputStream, TarsOutputStream } = require('@tars/stream');

class HelloProxy {
  async testHello(text) {
    const request = new TarsOutputStream();
    request.writeString(1, text);
    const data = await this._worker.tars_invoke('testHello', request.getBinBuffer(), {});
    const response = new TarsInputStream(data.response.sBuffer);
    return { ret: response.readInt32(0, true, 0), rsp: response.readString(2, true, '') };
  }
}

module.exports = { HelloProxy };
