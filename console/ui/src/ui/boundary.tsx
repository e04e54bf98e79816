// A fault in a part must not take the page with it.
import { Component, type ReactNode } from "react";
import { Failure } from "./bits";

interface Props {
  children: ReactNode;
  what: string;
}

export class Boundary extends Component<Props, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return <Failure error={this.state.error} what={`${this.props.what} has a fault: please report it`} retry={() => this.setState({ error: null })} />;
  }
}
