import java.sql.*;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Executor;

/** A connection that does nothing: what HikariCP asks of one is answered without a detour, since that is called at each release. */
final class StubConnection implements Connection {
  public boolean isValid(int timeout) { return true; }
  public void clearWarnings() {}
  public void close() {}
  public boolean isClosed() { return false; }
  public void abort(Executor executor) {}
  public void commit() {}
  public void rollback() {}
  public void rollback(Savepoint savepoint) {}
  public boolean getAutoCommit() { return true; }
  public void setAutoCommit(boolean on) {}
  public boolean isReadOnly() { return false; }
  public void setReadOnly(boolean on) {}
  public int getTransactionIsolation() { return TRANSACTION_READ_COMMITTED; }
  public void setTransactionIsolation(int level) {}
  public int getNetworkTimeout() { return 0; }
  public void setNetworkTimeout(Executor executor, int milliseconds) {}
  public String getCatalog() { return null; }
  public void setCatalog(String catalog) {}
  public String getSchema() { return null; }
  public void setSchema(String schema) {}
  public int getHoldability() { return 0; }
  public void setHoldability(int holdability) {}
  public SQLWarning getWarnings() { return null; }
  public DatabaseMetaData getMetaData() { return null; }
  public Map<String, Class<?>> getTypeMap() { return null; }
  public void setTypeMap(Map<String, Class<?>> map) {}
  public Properties getClientInfo() { return null; }
  public String getClientInfo(String name) { return null; }
  public void setClientInfo(String name, String value) {}
  public void setClientInfo(Properties properties) {}
  public boolean isWrapperFor(Class<?> type) { return false; }
  public <T> T unwrap(Class<T> type) { return null; }

  // Nothing asks these.
  public Statement createStatement() { return null; }
  public Statement createStatement(int a, int b) { return null; }
  public Statement createStatement(int a, int b, int c) { return null; }
  public PreparedStatement prepareStatement(String text) { return null; }
  public PreparedStatement prepareStatement(String text, int a) { return null; }
  public PreparedStatement prepareStatement(String text, int[] a) { return null; }
  public PreparedStatement prepareStatement(String text, String[] a) { return null; }
  public PreparedStatement prepareStatement(String text, int a, int b) { return null; }
  public PreparedStatement prepareStatement(String text, int a, int b, int c) { return null; }
  public CallableStatement prepareCall(String text) { return null; }
  public CallableStatement prepareCall(String text, int a, int b) { return null; }
  public CallableStatement prepareCall(String text, int a, int b, int c) { return null; }
  public String nativeSQL(String text) { return text; }
  public Savepoint setSavepoint() { return null; }
  public Savepoint setSavepoint(String name) { return null; }
  public void releaseSavepoint(Savepoint savepoint) {}
  public Clob createClob() { return null; }
  public Blob createBlob() { return null; }
  public NClob createNClob() { return null; }
  public SQLXML createSQLXML() { return null; }
  public Array createArrayOf(String type, Object[] values) { return null; }
  public Struct createStruct(String type, Object[] values) { return null; }
}
