# Written by `still debug`. A recording cannot be hurt, so nothing has to be confirmed.
set confirm off
set print thread-events off
# Nothing can be changed; say so before the server has to.
set may-write-memory off
set may-write-registers off
set may-call-functions off
set sysroot @SYSROOT@

define goto
monitor goto $arg0
end
document goto
Go to another moment: 42, 12.5s, -3s, first, last, crash, exit, a tag, point:NAME, +N, -N.
end

define still-process
monitor process $arg0
disconnect
file
target remote @SOCKET@
end
document still-process
Debug another process of the recorded tree, by its number: see `monitor processes`.
end
