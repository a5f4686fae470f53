--- What spec/native/factories.c has, for LuaJIT.
return [[
  int spec_register(const char *name, int threads_max, bool has_all);
  int spec_register_at_once(const char *name, bool has_all), spec_register_stepping(const char *name);
  void spec_behave(int operation, int behaviour, int status);
  void spec_let_go(bool has_let_go);
  void spec_reset(void);
  int spec_opened(void), spec_closed(void), spec_in_connect(void), spec_in_connect_most(void), spec_freed(void), spec_overlaps(void);
  int spec_closed_checked(void);
  int spec_called(int operation), spec_peer(void *pointer);
  const char *spec_text(void);
  long spec_native_write(int fd, const char *bytes, size_t count) __asm__("write");
  int spec_native_shutdown(int fd, int how) __asm__("shutdown");
]]
