// An intrusive, circular list: joining and leaving never allocate, and whatever is destroyed leaves its list.
#pragma once

namespace gantry::io {

/// A member of at most one list, or the head of one.
class Link {
 public:
  Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() { unlink(); }

  bool linked() const { return next_ != this; }

  void unlink() {
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = this;
  }

  /// As head of a list: appends `item`, taking it out of the list it was in.
  void push_back(Link& item) {
    item.unlink();
    item.prev_ = prev_;
    item.next_ = this;
    prev_->next_ = &item;
    prev_ = &item;
  }

  /// As head: the first and last member, the head itself when the list is empty.
  Link* first() { return next_; }
  Link* last() { return prev_; }
  Link* next() { return next_; }

 private:
  Link* prev_ = this;
  Link* next_ = this;
};

}  // namespace gantry::io
