// The client side of the servant that the tests call, written by hand:
//
//   module Test { interface Hello { int testHello(string sReq, out string sRsp); }; };

import com.qq.tars.common.support.Holder;
import com.qq.tars.protocol.annotation.Servant;
import com.qq.tars.protocol.tars.annotation.TarsHolder;

@Servant
public interface Hello {
    int testHello(String sReq, @TarsHolder Holder<String> sRsp);
}
